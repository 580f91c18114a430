"""Fusion of acks of leases: they share transactions, and each is answered as if it were alone."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from psycopg2.extensions import connection

from server.engines import Batch, LeaseAck, LeaseAcked
from server.engines.errors import Unavailable
from server.queue import fusion, lines
from tests.loop import Loop
from tests.server.places import Counting, Place, places, until

SUBSCRIBERS = ("s", "u")


@pytest.fixture(autouse=True)
def ready(connect: Callable[[], connection]) -> Iterator[connection]:
    """The topic `t` with 200 messages, which two subscribers want."""
    with closing(connect()) as session, session.cursor() as cursor:
        cursor.execute("select queue.create_topic('t')")
        for name in SUBSCRIBERS:
            cursor.execute("select queue.subscribe('t', %s)", (name,))
        cursor.execute("select queue.publish_batch('t', %s)", (json.dumps(list(range(200))),))
        session.commit()
        yield session


def leased(session: connection, count: int, subscriber: str = "s", size: int = 2) -> list[str]:
    """Return so many leases of so many messages each, in the order of these."""
    with session.cursor() as cursor:
        lease = "select max(lease) from queue.lease('t', %s, null, %s, 600)"
        found = []
        for _ in range(count):
            cursor.execute(lease, (subscriber, size))
            found += cursor.fetchone() or ()
        session.commit()
        return found


async def together(place: Place, acks: Sequence[LeaseAck]) -> list[Any]:
    """Acknowledge at the same time; return how many were done, or why none."""
    calls = [place.context.fusion.ack_lease("t", ack) for ack in acks]
    found = await asyncio.gather(*calls, return_exceptions=True)
    return [
        one.acked if isinstance(one, LeaseAcked) else getattr(one, "code", repr(one))
        for one in found
    ]


async def share(place: Place, session: connection) -> None:
    """Expect acks of several leases and subscribers to share a transaction, each with an answer of its own."""
    acks = [LeaseAck("s", lease, None) for lease in leased(session, 20)]
    first = leased(session, 1, "u", 5)[0]
    acks[3:3] = [
        LeaseAck("u", first, [2, 3]),
        LeaseAck("u", first, [3]),
        LeaseAck("u", first, None),
    ]
    assert await together(place, acks) == [2, 2, 2, 2, 0, 3, *[2] * 17]
    assert place.engine.acks == [23]
    assert await together(place, acks[:4]) == [0] * 4


def test_acks_that_come_at_the_same_time_share_a_transaction(
    loop: Loop, dsn: str, ready: connection
) -> None:
    """WORK.md C5 and C7 among them: of a part, and the same again."""

    async def check() -> None:
        async with places(Counting(dsn)) as (place,):
            await share(place, ready)

    loop.run(check())


def test_those_who_come_while_one_is_at_the_disk_share_the_next(
    loop: Loop, dsn: str, ready: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_SOON", 60)

    async def check() -> None:
        async with places(Counting(dsn)) as (place,):
            first, *others = [LeaseAck("s", lease, None) for lease in leased(ready, 17)]
            leader = asyncio.ensure_future(together(place, [first]))
            await until(lambda: place.engine.acks == [1])
            assert await together(place, others) == [2] * 16
            assert await leader == [2]
            assert place.engine.acks == [1, 16]

    loop.run(check())


async def one_bad(place: Place, session: connection) -> None:
    """Expect an ack that is refused to fail alone, in few statements, whatever it is refused for."""
    acks = [LeaseAck("s", lease, None) for lease in leased(session, 62)]
    acks[17] = LeaseAck("s", "1-1", None)
    acks[40] = LeaseAck("s", leased(session, 1)[0], [1])
    acks.insert(5, LeaseAck("nobody", acks[0].lease, None))
    expected: list[Any] = [2] * 63
    expected[5], expected[18], expected[41] = (
        "subscriber_not_found",
        "lease_expired",
        "invalid_request",
    )
    assert await together(place, acks) == expected
    assert 7 < len(place.engine.acks) <= 1 + 2 * 3 * 6


def test_one_bad_ack_harms_no_neighbour(loop: Loop, dsn: str, ready: connection) -> None:
    async def check() -> None:
        async with places(Counting(dsn)) as (place,):
            await one_bad(place, ready)

    loop.run(check())


async def one_stuck(place: Place, session: connection) -> None:
    """Expect a lease that a session holds to keep no other lease of the same subscriber from its ack."""
    stuck, *others = leased(session, 8)
    with session.cursor() as cursor:
        cursor.execute("select queue.ack_lease('t', 's', %s)", (stuck,))
        late = asyncio.ensure_future(together(place, [LeaseAck("s", stuck, None)]))
        assert await together(place, [LeaseAck("s", lease, None) for lease in others]) == [2] * 7
        session.commit()
    assert await late in ([0], ["unavailable"])  # when the machine is slow


def test_a_lease_that_is_stuck_harms_no_other(loop: Loop, dsn: str, ready: connection) -> None:
    async def check() -> None:
        async with places(Counting(dsn)) as (place,):
            await one_stuck(place, ready)

    loop.run(check())


class Unheard(Counting):
    """An engine whose answers to several acks are lost."""

    async def ack_leases(self, topic: str, acks: Sequence[LeaseAck]) -> list[LeaseAcked]:
        """Do it, and lose the answer."""
        acked = await super().ack_leases(topic, acks)
        if len(acks) > 1:
            raise Unavailable("lost", outcome="unknown")
        return acked


def test_an_unknown_outcome_is_unknown_to_all_and_the_same_ack_again_says_it(
    loop: Loop, dsn: str, ready: connection
) -> None:
    async def check() -> None:
        async with places(Unheard(dsn)) as (place,):
            acks = [LeaseAck("s", lease, None) for lease in leased(ready, 4)]
            calls = [place.context.fusion.ack_lease("t", ack) for ack in acks]
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert [getattr(one, "outcome", None) for one in found] == ["unknown"] * 4
            assert place.engine.acks == [4]
            assert [await together(place, [ack]) for ack in acks] == [[0]] * 4

    loop.run(check())


def test_leases_together_take_no_more_bytes_than_one(
    loop: Loop, dsn: str, ready: connection
) -> None:
    async def check() -> None:
        async with places(Counting(dsn)) as (place,):
            await place.engine.seek("t", "s", 200, None, False)
            for _ in range(16):
                await place.engine.publish("t", [Batch(json.dumps(["x" * 100_000] * 40), 40)])
            alone = await place.lease(wait=0, limit=100)
            wanted = [place.lease(wait=0, limit=100) for _ in range(32)]
            sizes = [len(json.dumps(one["messages"])) for one in await asyncio.gather(*wanted)]
            assert place.engine.looks == [1, 32]
            assert min(sizes) > 100_000 and sum(sizes) < 9 * 2**20
            assert 7 * 2**20 < len(json.dumps(alone["messages"])) < 9 * 2**20

    loop.run(check())


def test_a_crowd_of_workers_does_everything_once(loop: Loop, dsn: str, ready: connection) -> None:
    """Who leases, acks and nacks at the same time is told what became of its own."""

    async def worker(place: Place, number: int) -> list[int]:
        done = []
        while (got := await place.lease(wait=0, limit=3))["lease"]:
            offsets = [message["offset"] for message in got["messages"]]
            ack = LeaseAck("s", got["lease"], offsets[:2] if number % 2 else None)
            acked = await place.context.fusion.ack_lease("t", ack)
            assert acked.acked == len(ack.offsets or offsets)
            done += ack.offsets or offsets
        return done

    async def check() -> None:
        async with places(Counting(dsn)) as (place,):
            done = await asyncio.gather(*(worker(place, n) for n in range(16)))
            held = {offset for page in json.loads(f"[{await place.engine.leases('t', 's', None, 1000)}]")
                    for offset in page["offsets"]}  # fmt: skip
            everything = [offset for own in done for offset in own]
            assert sorted([*everything, *held]) == list(range(1, 201)) and held
            assert sum(place.engine.acks) > len(place.engine.acks)  # some were together
            assert sum(place.engine.looks) > len(place.engine.looks)

    loop.run(check())


def alike(calls: Any, outcomes: Any) -> Any:
    """A planted bug: what one is refused for is so for all."""
    return []


def by_subscriber(ack: LeaseAck) -> str:
    """A planted bug: a subscriber's acks wait for one another."""
    return ack.subscriber


@pytest.mark.parametrize(
    ("module", "name", "bug", "check"),
    [
        (lines, "_MOST", 1, share),
        (lines, "_parts", alike, one_bad),
        (fusion, "_lease", by_subscriber, one_stuck),
    ],
)
def test_planted_bugs_are_caught(
    loop: Loop,
    dsn: str,
    ready: connection,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    bug: Any,
    check: Callable[[Place, connection], Any],
) -> None:
    """The control of the tests above."""
    monkeypatch.setattr(module, name, bug)

    async def fails() -> None:
        async with places(Counting(dsn)) as (place,):
            with pytest.raises(AssertionError):
                await check(place, ready)
            ready.rollback()

    loop.run(fails())
