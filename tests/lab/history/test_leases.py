"""Leases on a real server: what is recorded of them, and bugs planted in the SQL functions, one by one."""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

import pytest
from psycopg2.extensions import connection

from qlib import InvalidRequest, KeyOrder, LeaseExpired
from qlib.lab.history import Operation
from qlib.lab.history.operation import values
from qlib.lease import Lease
from tests.lab.checker.verdicts import names
from tests.lab.history.bench import Bench, Spoil
from tests.waiting import until

PATIENCE = 40.0
LONG = 300.0  # seconds of a lease that does not expire while the test runs


def test_every_operation_of_a_worker_is_recorded(bench: Bench, topic: str) -> None:
    bench.pub.publish_many(topic, ["a", "b", "c", "d"], keys=["k", None, None, None])
    sub = bench.subscriber(topic, "kitchen")
    sub.configure(max_attempts=1, backoff_cap=7)
    lease = sub.lease(4, LONG, wait=1)
    assert [m.payload for m in lease] == ["a", "b", "c", "d"]
    assert lease.ack(lease[1]).acked == 1 and lease.extend() == lease.expires_at
    assert lease.nack([3], delay=2, error="burnt").dead == 1
    assert lease.nack(4, untried=True).nacked == 1
    assert sub.redrive(sub.dead()) == 1 and sub.remove_dead() == 0
    assert lease.ack().acked == 1 and sub.leases() == []
    with pytest.raises(InvalidRequest):
        lease.ack(9)
    assert not sub.lease(9, wait=0)[4:]
    recorded = {o.kind: o for o in bench.history.operations}
    made = next(o for o in bench.history.operations if o.kind == "lease")
    assert (made.lease, made.limit, made.seconds, made.wait) == (lease.id, 4, LONG, 1)
    assert (made.offsets, made.attempts) == ((1, 2, 3, 4), (1, 1, 1, 1))
    assert (made.values, made.keys) == (('"a"', '"b"', '"c"', '"d"'), ("k", None, None, None))
    assert isinstance(lease.expires_at, datetime)
    assert recorded["extend"].expires == lease.expires_at.timestamp() > (made.expires or 0)
    nack = next(o for o in bench.history.operations if o.kind == "nack")
    assert (nack.lease, nack.offsets, nack.delay) == (lease.id, (3,), 2)
    assert (nack.untried, nack.count, nack.buried) == (False, 0, 1)
    assert recorded["nack"].untried and recorded["nack"].count == 1
    acks = [o for o in bench.history.operations if o.kind == "ack_lease"]
    assert [(o.offsets, o.count, o.outcome) for o in acks] == [
        ((2,), 1, "ok"),
        ((), 1, "ok"),
        ((9,), None, "fail"),
    ]
    assert (recorded["redrive"].offsets, recorded["redrive"].count) == ((3,), 1)
    assert (recorded["configure"].max_attempts, recorded["configure"].backoff_cap) == (1, 7.0)
    verdict = bench.verdict()
    assert verdict, verdict
    final = bench.history.operations[-2]
    assert (final.kind, final.position, final.offsets) == ("final_work", 3, ())
    assert bench.outcomes()["lease ok"] == 2 and verdict.observations == 10


def test_a_context_manager_acts_through_the_stand_in(bench: Bench, topic: str) -> None:
    bench.pub.publish_many(topic, range(3))
    sub = bench.subscriber(topic, "kitchen")
    with suppress(ZeroDivisionError), sub.lease(3) as lease:
        lease.ack(lease[0])
        assert lease[1].payload / 0
    nacks = [(o.offsets, o.untried) for o in bench.history.operations if o.kind == "nack"]
    assert nacks == [((2,), False), ((3,), True)]
    assert bench.verdict()


@dataclass
class Kitchen:
    """Two workers of one subscriber, and the clock of their database."""

    bench: Bench
    session: connection
    ordered: bool = False
    max_attempts: int = 5

    def __post_init__(self) -> None:
        self.session.autocommit = True
        self.cook, self.other = (
            self.bench.subscriber(
                *("orders", "kitchen"),
                ordered=self.ordered,
                max_attempts=self.max_attempts,
                backoff_cap=0,
            )
            for _ in range(2)
        )

    def publish(self, *payloads: str, keys: list[str | None] | None = None) -> None:
        self.bench.pub.publish_many("orders", payloads, keys)

    def after(self, instant: datetime | None) -> None:
        """Wait until the database's clock has passed an instant."""
        with self.session.cursor() as cursor:

            def passed() -> Any:
                cursor.execute("select clock_timestamp() > %s", (instant,))
                return cursor.fetchall()[0][0]

            until(passed, PATIENCE)


def taken_over(kitchen: Kitchen) -> None:
    """One comes back when another one has its message."""
    kitchen.publish("a")
    zombie = kitchen.cook.lease(seconds=0.5)
    lease = until(lambda: kitchen.other.lease(seconds=LONG), PATIENCE)
    with suppress(LeaseExpired):
        zombie.ack()
    lease.ack()


def late(kitchen: Kitchen) -> None:
    """One comes back late, and nobody has its message."""
    kitchen.publish("a", "b")
    zombie = kitchen.cook.lease(seconds=0.5)
    began = monotonic()
    assert kitchen.other.lease(seconds=LONG, wait=0).ack().acked == 1
    until(lambda: monotonic() > began + 4, PATIENCE)  # so that no clock is in doubt
    with suppress(LeaseExpired):
        zombie.ack()


def extended(kitchen: Kitchen) -> None:
    """One extends its lease, and the other one asks when it would have expired."""
    kitchen.publish("a")
    lease = kitchen.cook.lease(seconds=1)
    first = lease.expires_at
    with suppress(LeaseExpired):
        lease.extend(LONG)
    kitchen.after(first)
    kitchen.other.lease(seconds=LONG)


def given_back(kitchen: Kitchen) -> None:
    """What was given back is leased by one, and then the other one asks."""
    kitchen.publish("a")
    kitchen.cook.lease(seconds=LONG).nack()
    assert until(lambda: kitchen.cook.lease(seconds=LONG), PATIENCE)
    kitchen.other.lease(seconds=LONG)


def of_one_table(kitchen: Kitchen) -> None:
    """Two orders of one table, and two cooks."""
    kitchen.publish("a", "b", keys=["table 1", "table 1"])
    first = kitchen.cook.lease(seconds=LONG)
    kitchen.other.lease(seconds=LONG)
    first.ack()


def backwards(kitchen: Kitchen) -> None:
    """The second order of a table is done before the first one."""
    kitchen.publish("a", "b", keys=["table 1", "table 1"])
    lease = kitchen.cook.lease(2, seconds=LONG)
    with suppress(KeyOrder):
        lease.ack(2)


def burnt(kitchen: Kitchen) -> None:
    """A message fails for the last time."""
    kitchen.publish("a", "b")
    lease = kitchen.cook.lease(2, seconds=LONG)
    assert lease.nack(lease[0]).dead == 1
    assert lease.ack().position == 2


def left_behind(kitchen: Kitchen) -> None:
    """A worker dies; the other one asks until it surely would have got what that had."""
    kitchen.publish("a")
    kitchen.cook.lease(seconds=0.5)
    began = monotonic()

    def asked() -> bool:
        return bool(kitchen.other.lease(seconds=LONG, wait=1)) or monotonic() > began + 6

    until(asked, PATIENCE)


def again(kitchen: Kitchen) -> None:
    """A message is tried twice."""
    kitchen.publish("a")
    kitchen.cook.lease(seconds=LONG).nack()
    assert until(lambda: kitchen.other.lease(seconds=LONG), PATIENCE)


Steps = Callable[[Kitchen], None]
EXPIRY = 'if expires_at <= "time" and not isempty(part) then'
SPOILT: dict[str, tuple[Steps, set[str], tuple[str, str, str]]] = {
    "an ack that ignores expiry": (taken_over, {"zombie-ack"}, ("held", EXPIRY, "if false then")),
    "an ack that ignores expiry, with nobody there": (
        *(late, {"zombie-ack"}),
        ("held", EXPIRY, "if false then"),
    ),
    "a lease that ignores extensions": (
        *(extended, {"double-lease"}),
        ("take_up", "when x.expires_at > p_time then", "when false then"),
    ),
    "a cursor that is not kept": (
        *(given_back, {"double-lease", "attempts"}),
        ("lease_many", "if v_from is distinct from 0 then", "if false then"),
    ),
    "a follower of a key let through": (
        *(of_one_table, {"key-order"}),
        ("pass_over", "coalesce(k.free, true) as free", "true as free"),
    ),
    "an ack that ignores the order of a key": (
        *(backwards, {"key-order"}),
        ("check_front", "raise exception", "raise debug"),
    ),
    "a nack at the last attempt that drops": (
        *(burnt, {"lost-work"}),
        ("bury", "from unnest(p_offsets) u", "from unnest('{}'::int8multirange) u"),
    ),
    "an expiry that nobody notices": (
        *(left_behind, {"lease-stuck"}),
        ("lease_many", "and h.due_at <= v_now", "and h.kind <> 'l'"),
    ),
    "a number that leaps": (
        *(again, {"attempts"}),
        ("lease_many", "(v_take.attempts[n] + 1)", "(v_take.attempts[n] + 2)"),
    ),
}


@pytest.mark.parametrize("bug", SPOILT)
@pytest.mark.parametrize("spoilt", [True, False], ids=["spoilt", "as it is"])
def test_a_bug_of_leases_is_caught(
    bug: str, spoilt: bool, own: Bench, spoil: Spoil, connect: Callable[[], connection]
) -> None:
    steps, found, change = SPOILT[bug]
    attempts = 1 if "lost-work" in found else 5
    kitchen = Kitchen(own, connect(), "key-order" in found, attempts)
    if spoilt:
        spoil(*change)
    steps(kitchen)
    verdict = own.verdict()
    assert names(verdict) == (found if spoilt else set()), verdict
    kinds = Counter(o.kind for o in own.history.operations)
    assert kinds["lease"] >= 1 and kinds["final_work"] == 1 and verdict.operations >= 6, kinds


@pytest.mark.parametrize("spoilt", [True, False], ids=["spoilt", "as it is"])
def test_a_lease_without_its_lock_is_caught(
    spoilt: bool, own: Bench, spoil: Spoil, connect: Callable[[], connection]
) -> None:
    """One leases in SQL, and before it commits the other one does through the server."""
    kitchen, session = Kitchen(own, connect()), connect()
    kitchen.publish("a", "b")
    if spoilt:
        spoil("lease_many", "perform pg_advisory_xact_lock(43, queue.crew_key(v_crew.id));", "")
        with kitchen.session.cursor() as cursor:  # the keys would be in the way
            cursor.execute("alter table queue.hold drop constraint hold_pkey")
    start = monotonic()
    with session.cursor() as cursor:
        cursor.execute(
            'select lease, extract(epoch from expires_at), "offset", attempt'
            " from queue.lease('orders', 'kitchen', null, 1, 300)"
        )
        ((lease, expires, offset, attempt),) = cursor.fetchall()
    got: list[Lease] = []
    asking = threading.Thread(target=lambda: got.append(kitchen.other.lease(seconds=LONG)))
    asking.start()
    until(lambda: got or _waits(kitchen.session), PATIENCE)
    assert bool(got) == spoilt
    session.commit()
    asking.join(PATIENCE)
    told = {"offsets": (offset,), "values": values(["a"]), "attempts": (attempt,), "lease": lease}
    asked = {"subscriber": "kitchen", "seconds": LONG, "expires": float(expires)}
    own.history.add(Operation("lease", "orders", start, monotonic(), **told, **asked))
    verdict = own.verdict()
    assert names(verdict) == ({"double-lease", "attempts"} if spoilt else set()), verdict
    assert len(got[0]) == 1


def _waits(session: connection) -> Any:
    with session.cursor() as cursor:
        cursor.execute(
            "select pid from pg_stat_activity where application_name = 'queue-server'"
            " and wait_event_type = 'Lock' and datname = current_database()"
        )
        return cursor.fetchall()
