"""What a lease of 10 and its ack cost where work has piled up, and beside a session that holds an old snapshot.

No commit waits for the disk, so that the processors' time shows. Piled up, each in a database of its own, against one
in which nothing is: a backlog; a hole, where one message is out for half a day and the later ones are done, each by an
ack of its own; delays, where as many messages were given back one by one. Beside the snapshot the contenders take turns
of 300, ten times, whatever the number of rounds; the same without it shows what the machine did meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median

from tests.bench import peers
from tests.bench.messages import SQL
from tests.bench.rounds import Contender, Result, clocked, interleave
from tests.bench.stand import Stand
from tests.bench.workers import Crew, Ours, Pgmq

COST = "lease 10, ack"
HELD = "lease 10, ack, beside an old snapshot"
BASE, BACKLOG, HOLE, DELAYS = "nothing piled up", "backlog", "hole", "delays"
WITHOUT = "without it"
PILED = 900_000
_MORE = 100_000  # messages behind what is piled up
_SIZE = 10
_TIMES = 60  # in a round
_FINER = 4  # rounds are short, since the differences looked for are small
_TURN, _TURNS = 300, 10
_LEASE = 10_000

_LEASED = "select count(*) from queue.lease(%(topic)s, 'workers', 'one', %(limit)s, 43200)"
# each message of every lease after an act
_EACH = """
    select h.*, o from queue.subscribers s
    join queue.hold h using (subscriber_id)
    cross join lateral unnest(h.offsets) u
    cross join lateral generate_series(lower(u), upper(u) - 1) o
    where s.topic = %(topic)s and h.act > %(after)s"""
_DONE = f"""
    insert into queue.settled (subscriber_id, epoch, first, last, act, counts, outcome)
    select subscriber_id, epoch, o, o, act, %(counts)s, %(outcome)s from ({_EACH}) e order by o"""
_GIVEN_BACK = f"""
    insert into queue.hold (subscriber_id, act, epoch, held_at, due_at, frontier, redeliveries, cursor_due, cursor_act,
                            cursor_offset, attempt, part, parts, kind, redriven, worker, offsets)
    select subscriber_id, last.act + o, epoch, now(), now() + interval '1 h' + o * interval '5 ms', last.frontier, 0,
           cursor_due, cursor_act, cursor_offset, 1, 0, 1, 'r', false, worker, int8multirange(int8range(o, o, '[]'))
    from ({_EACH}) e, (select max(act) as act, max(frontier) as frontier from queue.hold) last order by o"""


def measure(stand: Stand, part: str, rounds: int) -> list[Result]:
    """Measure both."""
    costs = [
        Contender(name, partial(_cycles, crew, _TIMES), partial(crew.publish, _TIMES * _SIZE))
        for name, crew in _piled(stand)
    ]
    turns = [
        Contender(name, partial(_cycles, crew, _TURN)) for name, crew in _beside_snapshots(stand)
    ]
    return [
        *interleave(part, COST, costs, _FINER * rounds),
        *interleave(part, HELD, turns, _TURNS, warm_up=False),
    ]


def thirds(costs: Sequence[float], beside: Sequence[float]) -> float:
    """Return what the last third of the turns cost against the first, where those beside stayed level."""
    level = [ours / theirs for ours, theirs in zip(costs, beside, strict=True)]
    third = len(level) // 3
    return median(level[-third:]) / median(level[:third])


def _cycles(crew: Crew, times: int) -> dict[str, float]:
    def cycle() -> None:
        got = crew.cycle(0, _SIZE)
        assert got == _SIZE, f"{crew.name}: {got} messages"

    return dict(clocked((cycle for _ in range(times)), _SIZE))


def _piled(stand: Stand) -> Iterator[tuple[str, Crew]]:
    for name in (BASE, BACKLOG, HOLE, DELAYS):
        crew = Ours(name, stand, stand.queue(name))
        crew.prepare(1, 0 if name == BASE else PILED + _MORE)
        if name == HOLE:
            _lease(crew, 1)
            _lease(crew, PILED)
            crew.run(_DONE, topic=crew.topic, after=1, counts=True, outcome="d")
        if name == DELAYS:
            _lease(crew, PILED)
            crew.run(_DONE, topic=crew.topic, after=0, counts=False, outcome="b")
            crew.run(_GIVEN_BACK, topic=crew.topic, after=0)
        _settle(crew)
        yield name, crew


def _lease(crew: Ours, messages: int) -> None:
    for first in range(0, messages, _LEASE):
        crew.run(_LEASED, topic=crew.topic, limit=min(_LEASE, messages - first))


def _beside_snapshots(stand: Stand) -> Iterator[tuple[str, Crew]]:
    crews: list[Crew] = [Ours(name, stand, stand.queue(name)) for name in (WITHOUT, SQL)]
    if "pgmq" not in dict(peers.absent()):
        crews.append(Pgmq("pgmq, held", stand))
    for crew in crews:
        crew.prepare(1, _TURN * _TURNS * _SIZE)
        _settle(crew)
        if crew.name != WITHOUT:
            crew.hold_a_snapshot()
        yield crew.name.removesuffix(", held"), crew


def _settle(crew: Crew) -> None:
    crew.wait_for_no_disk()
    crew.run("vacuum analyze")
    crew.run("checkpoint")
