"""Leases of two and three sessions, statement by statement. The numbers are those of the list of edge cases."""

from collections.abc import Callable

import psycopg2
import pytest

from tests.sql.session import Session, plant, refused
from tests.sql.working import NOTHING, Crew, published

Crews = tuple[Crew, Crew, Crew]
TAKE = "select array_agg(\"offset\") from queue.lease('orders', 'kitchen', 'w', %s, 30)"
ACK = "select acked from queue.ack_lease('orders', 'kitchen', %s)"


@pytest.fixture
def three(crew: Crew, session: Callable[[], Session]) -> Crews:
    """Workers in sessions a, b and c."""
    return crew, crew.at(session()), crew.at(session())


def test_04_a_lease_waits_for_the_one_before(three: Crews) -> None:
    a, b, _ = three
    a.session.run("begin")
    assert a.lease(3).offsets == [1, 2, 3]
    b.session.start(TAKE, 3)
    assert b.session.waits_for(a.session)
    a.session.run("commit")
    assert b.session.outcome() == [4, 5, 6]


def an_ack_in_flight_counts(a: Crew, b: Crew, c: Crew, end: str) -> None:
    """It looked before the lease expired: nobody gets the messages while it is under way, nor when it has committed."""
    lease = a.lease(2, 0.5)
    b.session.run("begin")
    assert b.ack(lease) == 2
    c.is_past(lease.expires_at)
    c.session.start(TAKE, 9)
    assert c.session.settles() == "done"  # and nobody waits for it
    assert c.session.outcome() == [*range(3, 11)]
    assert c.lease(9) == NOTHING
    b.session.run(end)
    if end == "commit":
        assert (c.lease(9), c.position) == (NOTHING, 2)
        assert a.ack(lease) == 0
        return
    due = c.session.value("select queue.next_due('orders', 'kitchen')")
    c.is_past(due)
    again = c.lease(9)
    assert (again.offsets, again.attempts) == ([1, 2], [2, 2])
    with refused("QL010"):
        a.ack(lease)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_09_p11_an_ack_in_flight_counts(three: Crews, end: str) -> None:
    an_ack_in_flight_counts(*three, end)


def test_control_a_lease_that_ignores_acks_in_flight_is_noticed(three: Crews) -> None:
    plant(
        three[0].session,
        "queue.take_up",
        ("not pg_try_advisory_xact_lock(", "not pg_try_advisory_xact_lock(1 #"),
    )
    with pytest.raises(AssertionError):
        an_ack_in_flight_counts(*three, "commit")


def test_09_an_extension_in_flight_counts(three: Crews) -> None:
    a, b, c = three
    lease = a.lease(2, 0.5)
    b.session.run("begin")
    b.extend(lease, 3600)
    c.is_past(lease.expires_at)
    assert c.lease(9).offsets == [*range(3, 11)]
    b.session.run("commit")
    due = c.session.value("select queue.next_due('orders', 'kitchen')")
    assert c.session.value("select %s > clock_timestamp() + interval '10 s'", due)
    assert a.ack(lease) == 2


def test_two_acks_of_one_lease_wait_for_each_other(three: Crews) -> None:
    a, b, _ = three
    lease = a.lease(3)
    a.session.run("begin")
    assert a.ack(lease, 1) == 1
    b.session.start(ACK, lease.id)
    assert b.session.waits_for(a.session)
    a.session.run("commit")
    assert b.session.outcome() == 2
    # it may have come upon the very end of the other's commit
    assert (b.ack(lease), b.position) == (0, 3)


def test_acks_of_two_leases_do_not(three: Crews) -> None:
    """The position trails by what is in flight, and never leads; the next call makes up for it."""
    a, b, c = three
    first, second = a.lease(2), a.lease(2)
    a.session.run("begin")
    assert a.ack(first) == 2
    b.session.start(ACK, second.id)
    assert b.session.settles() == "done"
    assert (b.session.outcome(), b.position) == (2, 0)
    a.session.run("commit")
    assert a.position == 2
    c.lease(1)
    assert c.position == 4


def test_20_a_nack_waits_for_an_ack_of_its_lease(three: Crews) -> None:
    a, b, _ = three
    lease = a.lease(3)
    a.session.run("begin")
    a.ack(lease, 2)
    b.session.start("select nacked from queue.nack('orders', 'kitchen', %s, null, 0)", lease.id)
    assert b.session.waits_for(a.session)
    a.session.run("commit")
    assert b.session.outcome() == 2
    assert a.lease(9).offsets[:2] == [1, 3]


def a_lease_in_flight_of_a_seek_is_all_or_nothing(a: Crew, b: Crew, c: Crew) -> None:
    a.session.run("begin")
    lease = a.lease(2)
    b.session.run("select queue.seek('orders', 'kitchen', 5)")
    a.session.run("commit")
    with refused("QL010", "from before a reset or seek"):
        a.ack(lease)
    assert c.lease(2).offsets == [6, 7]
    b.session.run("begin", "select queue.seek('orders', 'kitchen', 0)")
    early = c.lease(2)
    assert early.offsets == [8, 9]
    assert c.ack(early) == 2
    b.session.run("commit")
    with refused("QL010", "from before a reset or seek"):
        c.ack(early)
    assert c.lease(2).offsets == [1, 2]


def test_34_a_seek_beside_a_lease_in_flight(three: Crews) -> None:
    a_lease_in_flight_of_a_seek_is_all_or_nothing(*three)


def test_39_a_lease_that_is_rolled_back_never_was(three: Crews) -> None:
    a, b, _ = three
    before = a.rows()
    a.session.run("begin")
    lease = a.lease(3)
    a.ack(lease, 1)
    a.nack(lease, 2)
    a.extend(lease, 60)
    a.session.run("rollback")
    assert a.rows() == before
    assert (b.lease(3).offsets, b.position) == ([1, 2, 3], 0)


def test_39_an_effect_and_its_ack_commit_together(three: Crews) -> None:
    """Lease, effect and ack in one transaction: exactly once, whatever becomes of it; another one waits."""
    a, b, c = three
    a.session.run("create table bill (message bigint primary key)")
    for end in ("rollback", "commit", "commit"):
        a.session.run("begin")
        lease = a.lease(2)
        a.session.rows("insert into bill select unnest(%s)", lease.offsets)
        assert a.ack(lease) == 2
        b.session.start(TAKE, 9)
        assert b.session.waits_for(a.session)
        a.session.run(end)
        taken = b.session.outcome()
        billed = [row[0] for row in c.session.rows("select message from bill order by 1")]
        assert set(taken).isdisjoint(billed) and c.position == (len(billed) if billed else 0)
        b.session.rows("select queue.seek('orders', 'kitchen', %s)", c.position)
    assert billed == [1, 2, 3, 4]


def test_39_an_effect_with_the_ack_of_an_earlier_lease(three: Crews) -> None:
    a, b, _ = three
    a.session.run("create table bill (message bigint primary key)")
    lease = a.lease(2)
    for end, after in (("rollback", 0), ("commit", 2)):
        a.session.run("begin")
        a.session.rows("insert into bill select unnest(%s)", lease.offsets)
        a.ack(lease)
        b.session.start(TAKE, 1)
        assert b.session.settles() == "done"  # nobody waits
        b.session.outcome()
        a.session.run(end)
        assert (a.session.value("select count(*) from bill"), a.position) == (after, after)


LEVELS = ("repeatable read", "serializable")


def begin(crew: Crew, level: str) -> None:
    crew.session.run(f"begin isolation level {level}", "select count(*) from queue.topic")


def stale_calls(a: Crew, b: Crew, level: str) -> list[object]:
    """Do each thing at `level` after another session has done something since; return what came of it."""
    outcomes: list[object] = []

    def then(statement: str, *arguments: object) -> None:
        outcomes.append(a.session.attempt(statement, *arguments))
        a.session.run("rollback")

    begin(a, level)  # another lease
    b.lease(1)
    then(TAKE, 1)
    lease, other = b.lease(2), b.lease(2, 0.001)
    begin(a, level)  # an ack of what has expired since would not be seen, only tried
    a.is_past(other.expires_at)
    b.nack(lease, lease.offsets[1], delay=3600)
    then("select acked from queue.ack_lease('orders', 'kitchen', %s, %s)", lease.id, lease.offsets)
    held = b.lease(1)
    begin(a, level)
    b.ack(held)
    then(ACK, held.id)
    begin(a, level)
    unseen = b.lease(1)
    then(ACK, unseen.id)
    begin(a, level)
    b.extend(unseen, 3600)
    then("select queue.extend('orders', 'kitchen', %s, 30)::text", unseen.id)
    begin(a, level)
    b.nack(unseen, delay=3600)
    then("select redriven from queue.redrive('orders', 'kitchen')")
    return outcomes


@pytest.mark.parametrize("level", LEVELS)
def test_40_a_stale_snapshot_is_told_to_try_again(three: Crews, level: str) -> None:
    a, b, _ = three
    published(a.session, 20)
    *outcomes, nothing_dead = stale_calls(a, b, level)
    assert outcomes == ["40001"] * 5
    assert nothing_dead == 0
    begin(a, level)  # and with a new one it works
    lease = a.lease(3)
    assert a.ack(lease, *lease.offsets[:1]) == 1
    a.nack(lease, delay=0)
    a.session.run("commit")
    begin(a, level)
    again = a.lease(2)
    assert again.offsets == lease.offsets[1:]
    a.session.run("commit")
    assert a.ack(again) == 2


def an_ack_unseen_by_a_stale_snapshot_is_not_undone(a: Crew, b: Crew, level: str) -> None:
    """No act was made since: only what is settled tells that the messages are done. An extension likewise."""
    for change in (lambda lease: b.ack(lease, 2), lambda lease: b.extend(lease, 3600)):
        b.session.run("select queue.seek('orders', 'kitchen', 0)")
        lease = b.lease(3, 0.5)
        begin(a, level)
        change(lease)
        b.is_past(lease.expires_at)
        assert a.session.attempt(TAKE, 3) == "40001"
        a.session.run("rollback")


@pytest.mark.parametrize("level", LEVELS)
def test_40_an_ack_unseen_by_a_stale_snapshot_is_not_undone(three: Crews, level: str) -> None:
    an_ack_unseen_by_a_stale_snapshot_is_not_undone(*three[:2], level)


def test_control_a_stale_snapshot_that_is_believed_is_noticed(three: Crews) -> None:
    plant(
        three[0].session,
        "queue.try_ledger",
        ("insert into queue.hold", "return; insert into queue.hold"),
    )
    with pytest.raises((AssertionError, psycopg2.Error)):
        an_ack_unseen_by_a_stale_snapshot_is_not_undone(*three[:2], "repeatable read")


@pytest.mark.parametrize("level", LEVELS)
def test_40_with_order_too(orders: Session, session: Callable[[], Session], level: str) -> None:
    published(orders, 4, keys="aabb")
    orders.run("select queue.subscribe('orders', 'kitchen', 'earliest', p_ordered => true)")
    a, b = Crew(session()), Crew(orders)
    lease = b.lease(1)
    begin(a, level)
    b.ack(lease)
    assert a.session.attempt(TAKE, 1) == "40001"
    a.session.run("rollback")
    begin(a, level)
    assert a.session.value(TAKE, 4) == [2, 3, 4]
    a.session.run("commit")


def test_with_order_an_ack_waits_for_a_lease(
    orders: Session, session: Callable[[], Session]
) -> None:
    """Else a message is parked while the one before it is being done, and nobody ever wakes it."""
    published(orders, 2, keys="aa")
    orders.run("select queue.subscribe('orders', 'kitchen', 'earliest', p_ordered => true)")
    a, b = Crew(orders), Crew(session())
    lease = a.lease(1)
    a.session.run("begin")
    assert a.lease(1) == NOTHING
    b.session.start(ACK, lease.id)
    assert b.session.waits_for(a.session)
    a.session.run("commit")
    assert b.session.outcome() == 1
    assert a.lease(1).offsets == [2]
