"""Order by key. The numbers are those of the list of edge cases."""

import pytest

from tests.sql.session import Session, plant, refused
from tests.sql.working import NOTHING, Crew, published


def ordered(orders: Session, keys: str) -> Crew:
    """Workers in order, and a message for each letter; "-" has no key."""
    published(orders, len(keys), keys=keys)
    orders.run("select queue.subscribe('orders', 'kitchen', 'earliest', p_ordered => true)")
    return Crew(orders)


def parked(crew: Crew) -> list[int]:
    """Return which messages wait for another one of their key."""
    return [offset for (offset,) in crew.session.rows(
        'select t."offset" from (select distinct on ("offset") "offset", parked from queue.turn '
        'order by "offset", n desc) t '
        "where t.parked order by 1")]  # fmt: skip


def test_24_messages_without_a_key_have_no_order(orders: Session) -> None:
    crew = ordered(orders, "--------")
    leases = [crew.lease(2) for _ in range(4)]
    assert [lease.offsets for lease in leases] == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert crew.rows()["turn"] == 0
    assert crew.ack(leases[3], 8) == 1
    crew.nack(leases[0], 2)
    assert crew.lease(2).offsets == [2]


def one_lease_at_a_time(crew: Crew) -> None:
    first = crew.lease(2)
    assert first.offsets == [1, 2]
    second = crew.lease(5)
    assert second.offsets == [3, 4, 6, 7, 8]
    assert parked(crew) == [5]
    assert crew.lease(5).offsets == [10]
    assert crew.lease(5) == NOTHING
    assert parked(crew) == [5, 9]
    assert crew.ack(first, 1) == 1
    assert crew.lease(5) == NOTHING
    assert crew.ack(first, 2) == 1
    third = crew.lease(5)
    assert (third.offsets, third.keys, third.attempts) == ([5, 9], ["a", "a"], [1, 1])
    assert [crew.ack(lease) for lease in (second, third)] == [5, 2]


def test_25_one_lease_at_a_time_has_a_key(orders: Session) -> None:
    one_lease_at_a_time(ordered(orders, "aa-ba-cbad"))


def test_25_a_key_moves_on_with_one_message_a_lease(orders: Session) -> None:
    crew = ordered(orders, "aaaabb")
    assert crew.lease(1).offsets == [1]
    lease = crew.lease(1)
    assert lease.offsets == [5]
    assert (crew.lease(1), parked(crew)) == (NOTHING, [2, 3, 4, 6])
    crew.ack(lease)
    assert crew.lease(1).offsets == [6]
    assert crew.rows()["turn"] == 6 + 1  # each was parked once


def a_nack_takes_along_what_follows(crew: Crew) -> None:
    lease = crew.lease(5)
    assert lease.offsets == [1, 2, 3, 4, 5]
    for call in (crew.ack, crew.nack):
        with refused("QL011", "earlier message of the same key"):
            call(lease, 2)
    with refused("QL011"):
        crew.ack(lease, 1, 4)
    assert crew.ack(lease, 1) == 1
    assert crew.nack(lease, 2, delay=3600) == (1, 0)
    with refused("QL010", "given these back"):
        crew.ack(lease, 4)
    assert crew.lease(9) == NOTHING  # 4 waits for 2
    assert parked(crew) == [4]
    assert crew.ack(lease) == 2  # 3 and 5 are still in it
    crew.session.run("update queue.hold set due_at = clock_timestamp() where kind = 'r'")
    again = crew.lease(9)
    assert (again.offsets, again.attempts) == ([2, 4], [2, 1])
    assert (crew.ack(again), crew.position) == (2, 5)


def test_26_a_nack_takes_along_what_follows_in_its_key(orders: Session) -> None:
    a_nack_takes_along_what_follows(ordered(orders, "aabab"))


def test_26_untried_from_the_middle(orders: Session) -> None:
    """Who drains gives back what it has not begun, while it is at the first: nothing is overtaken."""
    crew = ordered(orders, "aaba")
    lease = crew.lease(4)
    assert crew.nack(lease, 2, untried=True) == (1, 0)
    assert crew.lease(4) == NOTHING
    assert crew.ack(lease) == 2  # 1 and 3
    again = crew.lease(4)
    assert (again.offsets, again.attempts) == ([2, 4], [1, 1])


def test_15_who_follows_in_a_lease_was_not_tried_though_it_is_there_for_another_attempt(
    orders: Session,
) -> None:
    crew = ordered(orders, "aa")
    assert crew.nack(crew.lease(1)) == (1, 0)
    lost = crew.lost(2)
    assert (lost.offsets, lost.attempts) == ([1, 2], [2, 1])
    first = crew.lease(2)  # at its last attempt, so alone
    assert (first.offsets, first.attempts, crew.ack(first)) == ([1], [3], 1)
    second = crew.lease(2)
    assert (second.offsets, second.attempts) == ([2], [1])


def test_27_a_delay_blocks_its_key_alone(orders: Session) -> None:
    crew = ordered(orders, "ababa")
    lease = crew.lease(1)
    crew.nack(lease, delay=3600)
    other = crew.lease(9)
    assert (other.offsets, crew.lease(9)) == ([2, 4], NOTHING)
    assert crew.ack(other) == 2
    crew.session.run("update queue.hold set due_at = clock_timestamp() where kind = 'r'")
    assert crew.lease(9).offsets == [1, 3, 5]


def test_28_a_dead_one_frees_its_key(orders: Session) -> None:
    crew = ordered(orders, "aaab")
    crew.configure(max_attempts=1)
    lease = crew.lease(1)
    assert crew.lease(9).offsets == [4]
    assert crew.nack(lease) == (0, 1)
    following = crew.lease(1)
    assert following.offsets == [2]
    assert crew.call("redrive") == (1,)
    again = crew.lease(9)
    assert again.offsets == [1]  # by nature out of order; 3 still waits for 2
    assert crew.ack(again) == 1
    assert (crew.lease(9), crew.ack(following), crew.lease(9).offsets) == (NOTHING, 1, [3])


def test_28_one_that_expires_after_its_last_attempt_frees_its_key(orders: Session) -> None:
    crew = ordered(orders, "aaa")
    crew.configure(max_attempts=1)
    crew.lost(2)  # 2 was never tried
    again = crew.lease(9)
    if not again.offsets:  # the call that buries passes on for the next
        again = crew.lease(9)
    assert (again.offsets, again.attempts) == ([2, 3], [1, 1])
    assert [offset for offset, *_ in crew.dead()] == [1]
    assert (crew.ack(again), crew.position) == (2, 3)


def test_29_a_long_run_of_one_stuck_key(orders: Session) -> None:
    """A call that finds nothing goes on all the same, nothing is parked twice, and who waits is told to come again."""
    crew = ordered(orders, "a" * 400 + "b")
    stuck = crew.lease(1)
    due = "select queue.next_due('orders', 'kitchen') <= clock_timestamp()"
    calls = 0
    while not (lease := crew.lease(1)).offsets:
        calls += 1
        assert crew.session.value(due) is True
        assert len(parked(crew)) == min(20 * calls, 399)
    assert (lease.offsets, calls) == ([401], 19)
    assert crew.rows()["turn"] == 401
    before = crew.rows()
    assert (crew.lease(1), crew.session.value(due)) == (NOTHING, False)
    assert crew.rows() == before
    crew.ack(lease)
    crew.ack(stuck)
    assert crew.lease(500).offsets == [*range(2, 401)]


def test_30_two_keys_with_one_hash_share_an_order(orders: Session) -> None:
    crew = ordered(orders, "ab")
    for function in ("pass_over", "take_turns", "keyed"):
        source = orders.value("select pg_get_functiondef(%s::regproc)", f"queue.{function}")
        orders.run(source.replace("hashtextextended(m.key, 0)", "(length(m.key) * 7)::bigint"))
    first = crew.lease(1)
    assert (crew.lease(1), parked(crew)) == (NOTHING, [2])
    crew.ack(first)
    assert crew.lease(1).offsets == [2]


def test_31_the_order_changes_only_while_nothing_is_out(crew: Crew) -> None:
    leased = crew.lease(3)
    for value in (True, None):
        if value is None:
            crew.nack(leased, 3, delay=3600)
            crew.ack(leased)
        with refused("QL013", "leased, delayed or parked"):
            crew.configure(ordered=True)
    assert crew.configure(ordered=False, max_attempts=3) == (3, 1.0, 3600.0, False)
    crew.session.run("select queue.seek('orders', 'kitchen', 3)")
    assert crew.configure(ordered=True) == (3, 1.0, 3600.0, True)
    crew.ack(crew.lease(2))
    assert crew.configure(ordered=False)[3] is False
    assert crew.lease(9).offsets == [6, 7, 8, 9, 10]


def test_an_expiry_does_not_count_for_those_that_follow_in_a_key(orders: Session) -> None:
    crew = ordered(orders, "aabb")
    crew.lost(4)
    first = crew.lease(4)
    assert (first.offsets, first.attempts) == ([1, 3], [2, 2])
    assert crew.lease(4) == NOTHING
    crew.ack(first)
    rest = crew.lease(4)
    assert (rest.offsets, rest.attempts) == ([2, 4], [1, 1])


def a_plain_ack_frees_keys(crew: Crew) -> None:
    """What waited for a message that a plain ack passed over is passed on when that one's hold is due."""
    crew.lost(1)
    lease = crew.lease(1, 0.5)
    assert crew.lease(9) == NOTHING
    crew.call("ack", 2, crew.epoch)
    crew.is_past(lease.expires_at)
    assert [crew.lease(9).offsets, crew.lease(9).offsets] == [[], [3, 4]]


def test_35_a_plain_ack_frees_keys(orders: Session) -> None:
    a_plain_ack_frees_keys(ordered(orders, "aaaa"))


def a_move_voids_what_is_parked(crew: Crew) -> None:
    crew.nack(crew.lease(1), delay=3600)
    other = crew.lease(9)
    assert (other.offsets, crew.lease(9), parked(crew)) == ([3], NOTHING, [2])
    crew.session.run("select queue.seek('orders', 'kitchen', 0)")
    again = crew.lease(1)
    assert (again.offsets, again.attempts) == ([1], [1])
    with refused("QL010", "from before a reset or seek"):
        crew.ack(other)
    assert (crew.lease(9).offsets, crew.ack(again)) == ([3], 1)
    again = crew.lease(9)
    assert (again.offsets, again.attempts) == ([2], [1])


def test_32_a_move_voids_what_is_parked(orders: Session) -> None:
    a_move_voids_what_is_parked(ordered(orders, "aab"))


BUGS = {
    "a follower of a key is let through": (
        "queue.pass_over", ("or queue.is_over(p_id, p_epoch, p_position, t.\"offset\") as free", "or true as free"),
        "aa-ba-cbad", one_lease_at_a_time),
    "a nack leaves what follows": (
        "queue.nack", ("v_behind := queue.followers(", "v_behind := '{}'; perform queue.followers("), "aabab",
        a_nack_takes_along_what_follows),
    "the front is not looked at": (
        "queue.check_front", ("if not isempty(", "if false and not isempty("), "aabab",
        a_nack_takes_along_what_follows),
    "nobody passes on behind a plain ack": (
        "queue.take_up", ("perform queue.pass_on(v_id, p_topic_id, p_epoch, p_position, v_rest * v_part);", "null;"),
        "aaaa", a_plain_ack_frees_keys),
    "a move keeps the epoch": (
        "queue.seek", ("v_reader.epoch + 1, 'seek'", "v_reader.epoch, 'seek'"), "aab", a_move_voids_what_is_parked),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_control_a_planted_bug_is_caught(orders: Session, bug: str) -> None:
    function, change, keys, check = BUGS[bug]
    crew = ordered(orders, keys)
    plant(orders, function, change)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(crew)
