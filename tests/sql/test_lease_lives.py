"""Leases beside reset, seek, plain reading, deletion and clocks that are set.

The numbers are those of the list of edge cases.
"""

from collections.abc import Callable

import pytest

from tests.sql.session import Session, plant, refused
from tests.sql.working import NOTHING, Crew, Lease, published

MOVES = {
    "reset": "select queue.reset('orders', %s)",
    "seek": "select queue.seek('orders', 'kitchen', %s)",
}
AHEAD = """
insert into queue.hold (subscriber_id, act, epoch, held_at, due_at, frontier, redeliveries, cursor_due, cursor_act,
                        attempt, part, parts, kind, redriven, offsets)
select subscriber_id, act + 1, epoch, held_at, '-infinity', frontier, redeliveries,
       clock_timestamp() + interval '1 hour', act, 0, 0, 1, 'i', false, '{}'
from queue.hold order by act desc limit 1
"""


def is_void(crew: Crew, lease: Lease) -> None:
    for call in (crew.ack, crew.nack):
        with refused("QL010", "from before a reset or seek"):
            call(lease)
    with refused("QL010", "from before a reset or seek"):
        crew.extend(lease, 30)


def a_move_voids_all_that_is_out(crew: Crew, move: str) -> None:
    crew.configure(max_attempts=1)
    crew.nack(crew.lease(1), error="dead")
    crew.configure(max_attempts=9)
    crew.nack(crew.lease(1), delay=3600)
    crew.nack(crew.lease(1), delay=0)
    live = crew.lease(3)
    crew.call("redrive")
    epoch = crew.epoch
    crew.session.rows(MOVES[move], crew.position)
    assert crew.epoch == epoch + 1
    is_void(crew, live)
    assert crew.dead() == [(1, 1, "nacked", "dead")]  # once more: it was not done
    assert crew.session.value("select epoch from queue.dead") == epoch
    again = crew.lease(20)
    assert (again.offsets, set(again.attempts)) == ([*range(2, 11)], {1})
    assert crew.lease(20) == NOTHING
    assert (crew.ack(again), crew.position) == (9, 10)


@pytest.mark.parametrize("move", MOVES)
def test_32_p9_a_move_voids_all_that_is_out(crew: Crew, move: str) -> None:
    a_move_voids_all_that_is_out(crew, move)


@pytest.mark.parametrize("move", MOVES)
def test_33_back_over_what_is_done(crew: Crew, move: str) -> None:
    crew.ack(crew.lease(5))
    crew.session.rows(MOVES[move], 2)
    again = crew.lease(10)
    assert (again.offsets, set(again.attempts)) == ([*range(3, 11)], {1})
    crew.ack(again)
    assert crew.position == 10


@pytest.mark.parametrize("move", MOVES)
def test_33_forward_over_what_is_leased(crew: Crew, move: str) -> None:
    leases = [crew.lease(2), crew.lease(2)]
    crew.session.rows(MOVES[move], 4)
    for lease in leases:
        is_void(crew, lease)
    assert crew.lease(10).offsets == [*range(5, 11)]


def test_35_a_plain_ack_beside_leases(crew: Crew) -> None:
    first, second, third = crew.lease(2), crew.lease(2, 0.5), crew.lease(4)
    assert crew.call("ack", 6, crew.epoch)[0] == 6
    assert crew.ack(first) == 2
    assert crew.position == 6
    crew.is_past(second.expires_at)
    assert crew.lease(2).offsets == [9, 10]  # 3 and 4 have expired, and are done
    assert crew.lease(2) == NOTHING
    assert (crew.ack(third), crew.position) == (4, 8)
    with refused("QL010"):
        crew.ack(second)


def test_35_a_plain_ack_beyond_the_frontier(crew: Crew) -> None:
    crew.lease(2)
    crew.call("ack", 5, crew.epoch)
    assert crew.lease(20).offsets == [6, 7, 8, 9, 10]


def test_35_a_plain_ack_into_the_middle_of_what_is_done(crew: Crew) -> None:
    crew.nack(crew.lease(1), delay=3600)
    crew.ack(crew.lease(5))
    assert crew.position == 0
    crew.call("ack", 3, crew.epoch)
    assert crew.lease(1).offsets == [7]
    assert crew.position == 6


def test_36_p5_a_plain_fetch_sees_what_is_leased(crew: Crew) -> None:
    lease = crew.lease(3)
    fetch = "select array_agg(\"offset\") from queue.fetch('orders', 'kitchen', 4)"
    assert crew.session.value(fetch) == [1, 2, 3, 4]
    crew.ack(lease)
    assert crew.session.value(fetch) == [4, 5, 6, 7]
    assert crew.lease(1).offsets == [4]


@pytest.mark.parametrize(("end", "code"), [
    ("select queue.unsubscribe('orders', 'kitchen')", "QL002"),
    ("select queue.delete_topic('orders')", "QL001"),
])  # fmt: skip
def test_37_deleted_during_leases(crew: Crew, end: str, code: str) -> None:
    crew.configure(max_attempts=1)
    crew.nack(crew.lease())
    lease = crew.lease(2)
    crew.extend(lease, 60)
    crew.session.run(end)
    assert set(crew.rows().values()) == {0}
    for call in (crew.ack, crew.nack):
        with refused(code):
            call(lease)
    with refused(code):
        crew.extend(lease, 30)
    for function in (
        "lease",
        "next_due",
        "redrive",
        "remove_dead",
        "settings",
        "list_leases",
        "list_dead",
    ):
        with refused(code):
            crew.session.rows(crew.text(function, 0))
    crew.session.run(
        "do $$ begin perform queue.create_topic('orders'); exception when others then end $$"
    )
    if code == "QL001":
        published(crew.session, 3)
    crew.session.run("select queue.subscribe('orders', 'kitchen', 'earliest')")
    with refused("QL010", "is unknown"):
        crew.ack(lease)
    again = crew.lease(2)
    assert (again.offsets, again.attempts, again.act) == ([1, 2], [1, 1], 1)
    with refused("QL010", "is unknown"):
        crew.ack(lease)
    assert crew.dead() == []


def test_37_what_a_lease_in_flight_leaves_behind_goes_with_tidy(
    crew: Crew, session: Callable[[], Session]
) -> None:
    other = crew.at(session())
    other.session.run("begin")
    other.lease(2)
    crew.session.run("select queue.unsubscribe('orders', 'kitchen')")
    other.session.run("commit")
    assert crew.rows()["hold"] == 1
    crew.session.run("select queue.tidy()")
    assert set(crew.rows().values()) == {0}


def test_38_offsets_beyond_32_bits(orders: Session) -> None:
    far = 2**40
    orders.rows("update queue.topic set floor = %s", far + 1)
    published(orders, 3)
    orders.run("select setval('queue.subscriber_subscriber_id_seq', 8589934592)",
               "select queue.subscribe('orders', 'kitchen', 'earliest')")  # fmt: skip
    crew = Crew(orders)
    lease = crew.lease(2)
    assert lease.offsets == [far + 1, far + 2]
    orders.rows("insert into queue.hold select subscriber_id, %s, epoch, origin, secret, held_at, due_at, frontier, "
                "redeliveries, cursor_due, cursor_act, cursor_offset, attempt, part, parts, kind, redriven, worker, "
                "offsets "
                "from queue.hold", far)  # fmt: skip
    assert crew.nack(lease, far + 1) == (1, 0)
    assert (crew.ack(lease), crew.lease(1).act) == (1, far + 2)


def test_38_ten_thousand_subscribers_with_leases(orders: Session) -> None:
    published(orders, 3)
    orders.run(
        "insert into queue.subscriber (topic_id, name) "
        "select topic_id, 's' || n from queue.topic, generate_series(1, 10000) n",
        'insert into queue.position (subscriber_id, move, "offset", epoch, cause) '
        "select subscriber_id, 1, 0, subscriber_id, 'start' from queue.subscriber",
        "do $$ begin for n in 1..10000 loop perform queue.lease('orders', 's' || n, null, 2); commit; end loop; end $$",
    )
    assert orders.row("select count(*), sum(leased) from queue.workloads()") == (10_000, 20_000)
    crew = Crew(orders, subscriber="s5000")
    assert (crew.lease(2).offsets, crew.lease(2)) == ([3], NOTHING)


def test_38_subscribers_that_share_a_lock_wait_and_no_more(
    orders: Session, session: Callable[[], Session]
) -> None:
    published(orders, 3)
    last = "select setval('queue.subscriber_subscriber_id_seq', max(subscriber_id) + %s) from queue.subscriber"
    for name, further in (("kitchen", 0), ("billing", 2**31 - 2), ("mailer", 0)):
        orders.rows(last, further)
        orders.run(f"select queue.subscribe('orders', '{name}', 'earliest')")
    keys = "select queue.crew_key(subscriber_id) from queue.subscribers order by subscriber_id"
    kitchen, billing, mailer = (key for (key,) in orders.rows(keys))
    assert kitchen == billing != mailer
    crew, others = Crew(orders), session()
    orders.run("begin")
    lease = crew.lease(1)
    take = "select array_agg(\"offset\") from queue.lease('orders', '{}', null, 2)"
    assert others.value(take.format("mailer")) == [1, 2]
    others.start(take.format("billing"))
    assert others.waits_for(orders)
    orders.run("commit")
    assert others.outcome() == [1, 2]
    assert (crew.lease(9).offsets, crew.ack(lease), crew.position) == ([2, 3], 1, 1)
    assert Crew(others, subscriber="billing").position == 0


def test_41_a_clock_that_is_set_forward_ends_leases_early(crew: Crew) -> None:
    lease = crew.lease(2, 3600)
    crew.session.run(
        "update queue.hold set held_at = held_at - interval '1 h', due_at = due_at - interval '1 h'"
    )
    again = crew.lease(2)
    assert (again.offsets, again.attempts) == ([1, 2], [2, 2])
    with refused("QL010", "has expired"):
        crew.ack(lease)


def a_clock_that_is_set_back_revives_no_lease(crew: Crew) -> None:
    before = crew.lease(2, 60)
    crew.session.run(AHEAD)  # what a lease leaves behind that was made while the clock was ahead
    with refused("QL010", "has expired"):
        crew.ack(before)
    late = crew.lease(2, 1)
    assert late.offsets == [3, 4]
    assert crew.session.value("select %s - clock_timestamp() > interval '59 min'", late.expires_at)
    assert crew.ack(late) == 2
    crew.nack(crew.lease(2), 5, delay=0)
    again = crew.lease(1)
    assert (again.offsets, again.attempts) == ([5], [2])  # given back at once, however late it is
    crew.session.rows("select queue.seek('orders', 'kitchen', %s)", crew.position)
    ends = crew.lease(2, 1).expires_at
    assert crew.session.value("select %s - clock_timestamp() < interval '2 s'", ends)


def test_42_p11_a_clock_that_is_set_back_revives_no_lease(crew: Crew) -> None:
    a_clock_that_is_set_back_revives_no_lease(crew)


def test_control_a_clock_that_goes_back_is_noticed(crew: Crew) -> None:
    plant(
        crew.session,
        "queue.held",
        (
            "greatest(clock_timestamp(), case when n.epoch = p.epoch then n.cursor_due end)",
            "clock_timestamp()",
        ),
    )
    with pytest.raises(pytest.fail.Exception):
        a_clock_that_is_set_back_revives_no_lease(crew)


def test_control_a_move_that_keeps_the_epoch_is_noticed(crew: Crew) -> None:
    plant(crew.session, "queue.seek", ("v_reader.epoch + 1, 'seek'", "v_reader.epoch, 'seek'"))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        a_move_voids_all_that_is_out(crew, "seek")


def test_47_leases_hold_the_position_that_retention_stops_at(crew: Crew) -> None:
    """`keep` goes no further than the slowest position: a leased, delayed or dying message is beyond it."""
    crew.nack(crew.lease(1), delay=3600)
    crew.ack(crew.lease(20))
    slowest = 'select min("position") from queue.subscribers'
    assert crew.session.value(slowest) == 0
    crew.session.run("update queue.hold set due_at = clock_timestamp() where kind = 'r'")
    crew.ack(crew.lease(1))
    assert crew.session.value(slowest) == 10


def test_a_lease_below_the_floor_is_refused_as_a_fetch_is(crew: Crew) -> None:
    crew.session.run(
        "update queue.topic set floor = 4", 'delete from queue.message where "offset" < 4'
    )
    with refused("QL004", "offset 1 is out of range", {"floor": 4, "head": 10}):
        crew.lease()
    crew.session.run("select queue.seek('orders', 'kitchen', 3)")
    assert crew.lease().offsets == [4]
