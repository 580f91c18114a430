"""What the part of the workers measures with, on a small scale: the counts are right, whatever the times are."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from psycopg2.extensions import cursor

from tests.bench import leases, leases_http, leases_piled, peers
from tests.bench.fanout import WAL
from tests.bench.load import has_wrk
from tests.bench.messages import HTTP
from tests.bench.rounds import P50, P99, RATE
from tests.bench.stand import Stand
from tests.bench.workers import Crew, Fused, Ours, measured

PGMQ = "pgmq" not in dict(peers.absent())


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def value(session: cursor, statement: str, *arguments: object) -> object:
    session.execute(statement, arguments)
    ((found,),) = session.fetchall()
    return found


def crews(stand: Stand) -> list[Crew]:
    return [*leases._crews(stand), Fused("fused", stand, stand.served)]


def test_every_crew_does_all_messages(stand: Stand, threads: ThreadPoolExecutor) -> None:
    found = crews(stand)
    assert [crew.name for crew in found] == [*["pgmq"] * PGMQ, "ours (SQL)", "fused"]
    for crew in found:
        for messages in (40, 7):
            crew.prepare(2, messages)
            assert crew.left() == messages
            figures = measured(crew, threads, 2, 3, messages)
            assert figures.keys() == {RATE, WAL} and figures[WAL] > 0
            assert crew.left() == 0


def test_fused_are_leases_of_sixteen_workers(stand: Stand) -> None:
    crew = Fused("fused", stand, stand.served)
    crew.prepare(1, 40)
    assert crew.cycle(0, 2) == 32
    session = stand.cursor()
    of_all = "select count(*) from queue.leases where topic = %s"
    assert value(session, of_all, crew.topic) == 0 and crew.left() == 8
    together = """select count(distinct held_at) || ' ' || count(*) from queue.hold h join queue.subscribers s
                  using (subscriber_id) where s.topic = %s"""
    assert value(session, together, crew.topic) == "1 16"


def test_what_is_not_done_is_noticed(stand: Stand, threads: ThreadPoolExecutor) -> None:
    class Forgets(Ours):
        def cycle(self, worker: int, size: int) -> int:
            got = super().cycle(worker, size)
            self._publish(["1"])
            return got

    crew = Forgets("forgets", stand, stand.served)
    crew.prepare(1, 6)
    with pytest.raises(AssertionError, match="forgets did 6, not 6"):
        measured(crew, threads, 1, 3, 6)


@pytest.mark.skipif(not has_wrk(), reason="wrk is not installed")
def test_over_http_every_answer_counts(stand: Stand) -> None:
    apart = """select count(distinct held_at) = count(*), count(*) from queue.hold h join queue.subscribers s
               using (subscriber_id) where s.topic = %s"""
    session, found = stand.cursor(), {}
    with ExitStack() as opened:
        for contender in leases_http.contenders(stand, opened):
            contender.before()
            rate = contender.work()
            assert not isinstance(rate, int) and rate.keys() == {RATE} and rate[RATE] > 0
            session.execute("select topic from queue.topics order by topic_id desc limit 1")
            ((topic,),) = session.fetchall()
            session.execute(apart, (topic,))
            ((alone, acts),) = session.fetchall()
            assert acts >= rate[RATE]  # it ran for a second
            found[contender.name] = alone
    assert found == {HTTP: False, leases_http.UNFUSED: True}


def test_a_worker_is_woken(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases_http, "_WAKES", 3)
    with ExitStack() as opened:
        figures = leases_http.waking(stand, opened)()
    assert figures.keys() == {P50, P99} and 0 < figures[P50] <= figures[P99]


def test_what_is_piled_up(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases_piled, "PILED", 300)
    monkeypatch.setattr(leases_piled, "_MORE", 50)
    monkeypatch.setattr(leases_piled, "_LEASE", 100)
    said = {}
    for name, crew in leases_piled._piled(stand):
        session = stand.cursor(crew._dsn)
        session.execute("""select s."position", s.head, w.leased, w.delayed, (select count(*) from queue.settled)
                           from queue.subscribers s left join queue.workloads() w using (topic, subscriber)""")
        (said[name],) = session.fetchall()
        leases_piled._cycles(crew, 3) if name != leases_piled.BASE else None
        session.execute(
            'select max(frontier), (select max("position") from queue.subscribers) from queue.hold'
        )
        ((frontier, position),) = session.fetchall()
        last = {"backlog": (30, 30), "hole": (331, 0), "delays": (330, 0)}.get(name)
        assert (frontier, position) == (last or (None, 0)), name
    assert said == {
        leases_piled.BASE: (0, 0, None, None, 0),
        leases_piled.BACKLOG: (0, 350, None, None, 0),
        leases_piled.HOLE: (0, 350, 1, 0, 300),
        leases_piled.DELAYS: (0, 350, 0, 300, 300),
    }


def test_turns_are_compared_third_by_third() -> None:
    beside = [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert leases_piled.thirds([2.0, 2.0, 4.0, 9.0, 9.0, 9.0, 5.0, 5.0, 5.0], beside) == 2.5


def test_a_snapshot_is_held_but_in_one_database(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_piled, "_TURN", 2)
    monkeypatch.setattr(leases_piled, "_TURNS", 3)
    names = [name for name, _ in leases_piled._beside_snapshots(stand)]
    assert names == [leases_piled.WITHOUT, "ours (SQL)", *["pgmq"] * PGMQ]
    held = "select count(*) from pg_stat_activity where state = 'idle in transaction'"
    assert value(stand.cursor(), held) == len(names) - 1
