"""Housekeeping of what workers leave behind: what goes, and what stays."""

import pytest

from tests.sql.session import Session, plant, refused
from tests.sql.working import NOTHING, Crew, published

LATER = "update queue.hold set held_at = held_at - interval '{0}', due_at = due_at - interval '{0}'"
CURSOR = (
    "update queue.hold set cursor_due = cursor_due - interval '{0}' where cursor_due > '-infinity'"
)
EXTENDED = "update queue.extension set expires_at = expires_at - interval '{0}'"


def passes(crew: Crew, time: str) -> None:
    """Let time pass for all that is in the ledger."""
    for statement in (LATER, CURSOR, EXTENDED):
        crew.session.run(statement.format(time))


def tidied(crew: Crew) -> None:
    for _ in range(100):
        if not crew.session.value("select queue.tidy()"):
            return
    raise AssertionError("there is always something to tidy")


@pytest.fixture
def small_margin(crew: Crew) -> Crew:
    """Settled rows go once they are two offsets behind the position."""
    plant(
        crew.session,
        "queue.trim_work",
        ("v_margin  constant integer := 20000", "v_margin  constant integer := 2"),
    )
    return crew


def what_nobody_needs_goes(crew: Crew) -> None:
    first, second = crew.lease(1, 0.5), crew.lease(1, 0.5)
    crew.ack(first)
    crew.ack(second)
    crew.is_past(second.expires_at)
    for _ in range(3):
        crew.ack(crew.lease(1))
    tidied(crew)
    assert crew.ack(first) == 0  # the same ack may come again for some time
    live = crew.lease(1, 7200)
    crew.extend(live, 7200)
    crew.nack(crew.lease(1), delay=7200)
    tidied(crew)
    before = crew.rows()
    assert before["hold"] == 8 and before["settled"] == 6  # it is too early
    passes(crew, "1 hour")
    tidied(crew)
    after = crew.rows()
    assert after == before | {"hold": 4, "settled": 4}, after
    assert crew.ack(live) == 1
    passes(crew, "2 hours")
    again = crew.lease(9)
    assert (again.offsets, again.attempts) == ([7, 8, 9, 10], [2, 1, 1, 1])
    crew.ack(again)
    passes(crew, "1 hour")
    crew.lease()
    tidied(crew)
    assert crew.rows() | {"hold": 0} == dict.fromkeys(before, 0) | {"settled": 2}
    assert 1 <= crew.rows()["hold"] <= 2
    published(crew.session, 1)
    assert crew.lease().offsets == [11]


def test_what_nobody_needs_goes(small_margin: Crew) -> None:
    what_nobody_needs_goes(small_margin)


@pytest.mark.parametrize("change", [
    ("l.due_at < clock_timestamp() - interval '10 minutes'", "true"),
    ("(l.due_at, l.act) < (n.cursor_due, n.cursor_act)", "true"),
    ("and e.expires_at > clock_timestamp() - interval '10 minutes'", "and false"),
    ("l.act < n.act", "l.act <= n.act"),
    ("not l.counts or l.last < p.\"offset\" - v_margin", "true"),
])  # fmt: skip
def test_control_a_tidy_that_removes_too_much_is_noticed(
    small_margin: Crew, change: tuple[str, str]
) -> None:
    plant(small_margin.session, "queue.trim_work", change)
    with pytest.raises((AssertionError, pytest.fail.Exception, Exception)):  # noqa: B017
        what_nobody_needs_goes(small_margin)
        raise_if_an_extended_lease_is_gone(small_margin)


def raise_if_an_extended_lease_is_gone(crew: Crew) -> None:
    """It expired by its own time long ago, and goes on by its extension."""
    published(crew.session, 5)
    lease = crew.lease(1, 60)
    crew.extend(lease, 43200)
    passes(crew, "1 hour")
    crew.lease(1, 1)
    passes(crew, "1 hour")
    crew.lease(1, 1)
    tidied(crew)
    assert crew.ack(lease) == 1


def test_an_extended_lease_stays(small_margin: Crew) -> None:
    small_margin.ack(small_margin.lease(10))
    raise_if_an_extended_lease_is_gone(small_margin)


def test_what_is_of_earlier_epochs_goes_at_once(crew: Crew) -> None:
    crew.nack(crew.lease(2), delay=3600)
    crew.extend(crew.lease(2), 3600)
    crew.ack(crew.lease(2))
    crew.session.run("select queue.seek('orders', 'kitchen', 0)")
    tidied(crew)
    assert crew.rows()["hold"] == 1  # the last one: its act is not given out again
    lease = crew.lease(20)
    tidied(crew)
    assert crew.rows() == dict.fromkeys(crew.rows(), 0) | {"hold": 1}
    assert lease.act == 5 and crew.ack(lease) == 10


def test_turns_go(orders: Session) -> None:
    published(orders, 10, keys="aabbaabbcc")
    orders.run("select queue.subscribe('orders', 'kitchen', 'earliest', p_ordered => true)")
    plant(
        orders,
        "queue.trim_work",
        ("v_margin  constant integer := 20000", "v_margin  constant integer := 2"),
    )
    crew = Crew(orders)
    for _ in range(5):
        crew.ack(crew.lease(2))
    tidied(crew)
    assert crew.rows()["turn"] == 3
    published(orders, 2, keys="ab")
    assert crew.lease(9).offsets == [11, 12]


def test_the_position_moves_on_over_much_that_is_done(crew: Crew) -> None:
    """A hole is closed, and behind it more is done than an ack passes over in one call."""
    published(crew.session, 3000)
    hole = crew.lease(1)
    epoch, act = crew.epoch, crew.lease(5000).act
    crew.session.rows("insert into queue.settled (subscriber_id, epoch, first, last, act, counts, outcome) "
                      "select subscriber_id, %s, n, n, %s, true, 'd' from queue.subscriber, generate_series(2, 3010) n",
                      epoch, act)  # fmt: skip
    crew.ack(hole)
    assert crew.position == 1001 - 1
    tidied(crew)
    assert crew.position == 3010
    assert crew.lease() == NOTHING


def test_who_is_at_work_is_left_alone(crew: Crew, session: object) -> None:
    crew.configure(max_attempts=1)
    crew.lost(2)
    other = crew.at(session())  # type: ignore[operator]
    other.session.run("begin")
    other.session.run(
        "select pg_advisory_xact_lock(43, queue.crew_key(subscriber_id)) from queue.subscriber"
    )
    crew.session.start("select queue.tidy()")
    assert crew.session.settles() == "done"
    crew.session.outcome()
    assert crew.dead() == []
    other.session.run("commit")
    tidied(crew)
    assert len(crew.dead()) == 2


def test_a_call_moves_on_a_hundred_subscribers(orders: Session) -> None:
    published(orders, 2)
    orders.run("do $$ begin for n in 1..250 loop "
               "perform queue.subscribe('orders', 's' || n, 'earliest', p_max_attempts => 1); "
               "perform queue.lease('orders', 's' || n, null, 1, 0.001); end loop; end $$")  # fmt: skip
    dead = "select count(*) from queue.dead"
    seen = []
    while orders.value("select queue.tidy()"):
        seen.append(orders.value(dead))
    assert seen[:3] == [100, 200, 250]


def test_a_call_takes_few_locks_of_leases(orders: Session) -> None:
    """It comes for a hundred subscribers in one transaction; an instance has locks for some ten thousand."""
    published(orders, 60)
    orders.run("do $$ begin for n in 1..3 loop "
               "perform queue.subscribe('orders', 's' || n, 'earliest', p_max_attempts => 1); "
               "for m in 1..60 loop perform queue.lease('orders', 's' || n, null, 1, 60); end loop; end loop; end $$",
               "update queue.hold set due_at = clock_timestamp()", "begin", "select queue.tidy()")  # fmt: skip
    held = orders.value(
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
    )
    assert held <= 1 + 3 * (2 + 20)
    orders.run("commit")
    while orders.value("select queue.tidy()"):
        pass
    assert orders.value("select count(*) from queue.dead") == 3 * 60


def test_rows_of_what_was_deleted_go(crew: Crew) -> None:
    for function in ("queue.delete_topic", "queue.unsubscribe"):
        plant(crew.session, function, ("100000", "3"))
    crew.configure(max_attempts=1, ordered=True)
    for _ in range(5):
        crew.extend(crew.lease(1), 60)
    crew.nack(crew.lease(5))
    crew.session.run("select queue.unsubscribe('orders', 'kitchen')")
    assert sum(crew.rows().values()) > 5
    chunks = []
    while removed := crew.session.value("select queue.tidy(4)"):
        chunks.append(removed)
    assert set(crew.rows().values()) == {0} and max(chunks) <= 5 * 4 and len(chunks) > 1


def test_a_number_of_which_work_is_left_is_not_given_out(crew: Crew) -> None:
    """A sequence may be set back, since logical replication carries none."""
    crew.configure(max_attempts=1)
    crew.nack(crew.lease(1))
    crew.extend(crew.lease(1), 60)
    for table in ("crew", "hold", "settled", "extension", "dead"):
        crew.session.run("begin", "delete from queue.subscriber", "delete from queue.position",
                         *(f"delete from queue.{other}" for other in crew.rows() if other != table),
                         "select setval('queue.subscriber_subscriber_id_seq', 1, false)")  # fmt: skip
        assert crew.session.value("select queue.next_subscriber_id()") == 2, table
        crew.session.run("rollback")


def test_a_limit_below_zero_is_refused(crew: Crew) -> None:
    with refused("2201W"):
        crew.session.run("select queue.tidy(-1)")
