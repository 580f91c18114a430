"""Leases: who gets what, until when, and what ack, nack and extend do.

The numbers are those of the list of edge cases.
"""

from collections.abc import Callable

import psycopg2
import pytest

from tests.sql.session import Session, plant, refused
from tests.sql.working import NOTHING, Crew, Lease, published

NEWEST = "select kind, offsets::text, frontier from queue.hold order by act desc limit 1"


@pytest.mark.parametrize("limit", [0, -1, None])
def test_01_a_limit_below_one_is_refused(crew: Crew, limit: int) -> None:
    with refused("QL009", "1 message or more"):
        crew.lease(limit)
    assert set(crew.rows().values()) == {0}


@pytest.mark.parametrize("seconds", [0, 0.0009, -1, 43201, "NaN", "Infinity", None])
def test_01_a_time_out_of_range_is_refused(crew: Crew, seconds: float) -> None:
    with refused("QL009", "0.001 to 43200 seconds"):
        crew.lease(1, seconds)
    lease = crew.lease(1, 43200)
    with refused("QL009", "0.001 to 43200 seconds"):
        crew.extend(lease, seconds)
    assert crew.rows() | {"hold": 0} == dict.fromkeys(crew.rows(), 0)


def test_01_a_large_limit_is_clamped(crew: Crew) -> None:
    published(crew.session, 10_001)
    assert len(crew.lease(2**31 - 1).offsets) == 10_000
    assert crew.lease(20_000).offsets == [*range(10_001, 10_012)]


def test_01_a_long_name_is_refused(crew: Crew) -> None:
    with refused("QL009", "at most 200 characters"):
        crew.lease(worker="x" * 201)
    assert crew.lease(worker="é" * 200).offsets == [1]


def test_02_nothing_to_do_writes_nothing(crew: Crew) -> None:
    lease = crew.lease(10)
    before = crew.rows()
    for _ in range(300):
        assert crew.lease(10) == NOTHING
    assert crew.rows() == before
    assert crew.ack(lease) == 10
    before = crew.rows()
    assert crew.lease(10) == NOTHING
    assert crew.rows() == before


def test_03_a_worker_that_leases_twice_has_two_leases(crew: Crew) -> None:
    first, second = crew.lease(3, worker="a"), crew.lease(3, worker="a")
    assert (first.offsets, second.offsets) == ([1, 2, 3], [4, 5, 6])
    assert first.id != second.id
    with refused("QL009", "does not hold all of these"):
        crew.ack(first, 4)
    assert [crew.ack(second), crew.position, crew.ack(first), crew.position] == [3, 0, 3, 6]


def test_04_workers_get_a_run_from_the_frontier_without_overlap(crew: Crew) -> None:
    leases = [crew.lease(3, worker=name) for name in "abcd"]
    assert [lease.offsets for lease in leases] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]]
    assert leases[0].payloads == ["1", "2", "3"]
    assert crew.lease(3) == NOTHING


def test_05_an_ack_of_a_part(crew: Crew) -> None:
    lease = crew.lease(5, worker="a")
    assert (crew.ack(lease, 1, 3), crew.position) == (2, 1)
    rest = crew.session.row("select worker, offsets::text, attempt from queue.leases")
    assert rest == ("a", "{[2,3),[4,6)}", 1)
    assert (crew.ack(lease, 2), crew.position) == (1, 3)
    assert (crew.ack(lease), crew.position) == (2, 5)


def test_05_the_rest_comes_back_at_the_expiry(crew: Crew) -> None:
    lease = crew.lease(3, 0.5)
    assert crew.ack(lease, 2) == 1
    crew.is_past(lease.expires_at)
    again = crew.lease(10)
    assert again.offsets == [1, 3, *range(4, 11)]
    assert again.attempts == [2, 2] + [1] * 7


def test_06_an_ack_of_what_the_lease_never_held_does_nothing(crew: Crew) -> None:
    lease, other = crew.lease(3), crew.lease(3)
    before = crew.rows()
    for offsets in ([1, 4], [1, 11], [2**62], [0], [-1]):
        with refused("QL009"):
            crew.ack(lease, *offsets)
        with refused("QL009"):
            crew.nack(lease, *offsets)
    with refused("QL009"):
        crew.call("ack_lease", lease.id, [])
    with refused("QL009"):
        crew.call("ack_lease", lease.id, [1, None])
    assert crew.rows() == before
    assert (crew.ack(lease), crew.ack(other), crew.position) == (3, 3, 6)


def the_same_ack_again(crew: Crew) -> None:
    lease = crew.lease(3, 0.5)
    assert [crew.ack(lease, 1, 2), crew.ack(lease, 1, 2), crew.ack(lease, 1)] == [2, 0, 0]
    assert [crew.ack(lease), crew.ack(lease), crew.ack(lease, 1, 2, 3)] == [1, 0, 0]
    crew.is_past(lease.expires_at)
    assert [crew.ack(lease), crew.ack(lease, 2)] == [0, 0]
    assert crew.lease(10).offsets == [*range(4, 11)]
    assert [crew.ack(lease), crew.ack(lease, 2), crew.position] == [0, 0, 3]


def test_07_the_same_ack_again_also_after_the_expiry(crew: Crew) -> None:
    the_same_ack_again(crew)


def test_07_not_when_only_a_part_was_done(crew: Crew) -> None:
    lease = crew.lease(3, 0.5)
    crew.ack(lease, 1)
    crew.is_past(lease.expires_at)
    assert crew.ack(lease, 1) == 0
    for offsets in ([], [1, 2]):
        with refused("QL010", "has expired"):
            crew.ack(lease, *offsets)


def an_expired_lease_is_refused(crew: Crew) -> None:
    lease = crew.lost(3)
    before = crew.rows()
    for call in (crew.ack, crew.nack):
        for offsets in ([], [2]):
            with refused("QL010", "has expired"):
                call(lease, *offsets)
    assert crew.rows() == before
    again = crew.lease(3)
    assert (again.offsets, again.attempts) == ([1, 2, 3], [2, 2, 2])
    with refused("QL010", "has expired"):
        crew.ack(lease)
    assert (crew.ack(again), crew.position) == (3, 3)


def test_08_p11_an_expired_lease_is_refused_though_nobody_took_it(crew: Crew) -> None:
    an_expired_lease_is_refused(crew)


def what_was_given_back_cannot_be_acknowledged(crew: Crew) -> None:
    lease = crew.lease(4)
    assert crew.nack(lease, 2) == (1, 0)
    for offsets in ([2], [1, 2]):
        with refused("QL010", "has given these back"):
            crew.ack(lease, *offsets)
    assert crew.ack(lease, 1, 3) == 2
    assert crew.nack(lease, 1) == (0, 0)
    assert crew.nack(lease, 1, 2, 3, 4) == (1, 0)
    assert crew.ack(lease) == 0  # of all that it held, some was done by it
    lease = crew.lease(2)
    assert (lease.offsets, lease.attempts) == ([2, 4], [2, 2])
    assert crew.nack(lease) == (2, 0)
    with refused("QL010", "has given these back"):
        crew.ack(lease)


def test_10_what_was_given_back_cannot_be_acknowledged(crew: Crew) -> None:
    what_was_given_back_cannot_be_acknowledged(crew)


def test_11_a_lease_that_is_over_cannot_be_extended(crew: Crew) -> None:
    lease = crew.lost(3)
    with refused("QL010", "has expired"):
        crew.extend(lease, 30)
    lease = crew.lease(3)
    crew.ack(lease, 1)
    crew.nack(lease, 2, 3)
    with refused("QL010", "holds nothing any more"):
        crew.extend(lease, 30)


def test_11_an_extension_never_shortens(crew: Crew) -> None:
    lease = crew.lease(2, 30, "slow")
    assert crew.extend(lease, 1) == lease.expires_at
    longer = crew.extend(lease, 100)
    assert longer > lease.expires_at
    assert crew.extend(lease, 50) == longer
    for _ in range(20):
        crew.extend(lease, 0.001)
    assert crew.session.row("select max(n), count(*) from queue.extension") == (23, 23)
    seen = crew.session.row("select lease, worker, expires_at from queue.leases")
    assert seen == (lease.act, "slow", longer)


def an_extended_lease_is_kept(crew: Crew) -> None:
    lease = crew.lease(2, 0.5)
    ends = crew.extend(lease, 3600)
    crew.is_past(lease.expires_at)
    assert crew.lease(10).offsets == [*range(3, 11)]
    assert crew.lease(10) == NOTHING
    assert crew.session.value("select queue.next_due('orders', 'kitchen')") < ends
    listed = crew.session.rows(
        "select lease, offsets::text, expires_at from queue.leases order by 1"
    )
    assert listed[0] == (lease.act, "{[1,3)}", ends)
    assert (crew.ack(lease), crew.position) == (2, 2)


def test_11_an_extended_lease_is_kept(crew: Crew) -> None:
    an_extended_lease_is_kept(crew)


def test_12_what_was_given_back_is_not_extended(crew: Crew) -> None:
    lease = crew.lease(4, 0.5)
    crew.ack(lease, 1)
    crew.nack(lease, 2, delay=0)
    ends = crew.extend(lease, 1)
    again = crew.lease(1)
    assert (again.offsets, again.attempts) == ([2], [2])
    crew.is_past(ends)
    late = crew.lease(2)
    assert (late.offsets, late.attempts) == ([3, 4], [2, 2])
    crew.ack(late)
    assert (crew.ack(again), crew.position) == (1, 4)


def a_delay_beyond_the_expiry_counts(crew: Crew) -> None:
    lease = crew.lease(2, 0.5)
    crew.nack(lease, 1, delay=3600)
    crew.is_past(lease.expires_at)
    assert crew.lease(10).offsets == [2, *range(3, 11)]
    crew.session.run("update queue.hold set due_at = clock_timestamp() where kind = 'r'")
    again = crew.lease(10)
    assert (again.offsets, again.attempts) == ([1], [2])


def test_13_a_delay_beyond_the_expiry_counts(crew: Crew) -> None:
    a_delay_beyond_the_expiry_counts(crew)


def test_13_without_a_delay_it_is_next_in_line(crew: Crew) -> None:
    crew.nack(crew.lease(3), 2, delay=0)
    again = crew.lease(1)
    assert (again.offsets, again.attempts) == ([2], [2])


@pytest.mark.parametrize("delay", [-0.001, 604801, "NaN", "Infinity"])
def test_13_a_delay_out_of_range_is_refused(crew: Crew, delay: float) -> None:
    lease = crew.lease()
    with refused("QL009", "0 to 604800 seconds"):
        crew.nack(lease, delay=delay)
    assert crew.nack(lease, delay=604800) == (1, 0)


DELAY = "select extract(epoch from due_at - held_at) from queue.hold where kind = 'r' order by act desc limit 1"


def test_14_without_a_delay_given_it_backs_off(crew: Crew) -> None:
    crew.configure(max_attempts=100, backoff_seconds=10, backoff_cap_seconds=100)
    bounds = [(5, 10), (10, 20), (20, 40), (40, 80), (50, 100), (50, 100)]
    for low, high in bounds:
        assert crew.nack(crew.lease(), delay=None) == (1, 0)
        assert low <= crew.session.value(DELAY) <= high
        crew.session.run(
            "update queue.hold set due_at = clock_timestamp() where kind = 'r' and due_at > clock_timestamp()"
        )
    spread = crew.session.rows(
        "select queue.backoff(n, 1, 3600) from generate_series(1, 60) n, generate_series(1, 9)"
    )
    assert len(set(spread)) > 500 and max(spread) <= (3600,)


def each_backs_off_by_its_own_attempt(crew: Crew) -> None:
    crew.configure(max_attempts=100, backoff_seconds=10, backoff_cap_seconds=1000)
    for _ in range(3):
        crew.nack(crew.lease())
    lease = crew.lease(2)
    assert (lease.offsets, lease.attempts) == ([1, 2], [4, 1])
    assert crew.nack(lease, delay=None) == (2, 0)
    delays = dict(
        crew.session.rows(
            "select lower(offsets), extract(epoch from due_at - held_at) from queue.hold "
            "where kind = 'r' order by act desc limit 2"
        )
    )
    assert 40 <= delays[1] <= 80 and 5 <= delays[2] <= 10


def test_14_each_backs_off_by_its_own_attempt(crew: Crew) -> None:
    each_backs_off_by_its_own_attempt(crew)


def test_14_a_high_attempt_does_not_overflow(crew: Crew) -> None:
    for attempt in (60, 2**31 - 1):
        assert 1800 <= crew.session.value("select queue.backoff(%s, 1, 3600)", attempt) <= 3600
    assert crew.session.value("select queue.backoff(2147483647, 604800, 604800)") <= 604800


def test_15_what_a_worker_lost_comes_before_new_messages(crew: Crew) -> None:
    crew.lost(3)
    again = crew.lease(5)
    assert (again.offsets, again.attempts) == ([1, 2, 3, 4, 5], [2, 2, 2, 1, 1])
    crew.ack(again, 1, 4)
    assert crew.position == 1


def the_last_attempt_after_an_expiry_is_alone(crew: Crew) -> None:
    crew.configure(max_attempts=3)
    for _ in range(2):
        crew.lost(4)
    for offset in (1, 2, 3, 4):
        lease = crew.lease(4)
        assert (lease.offsets, lease.attempts) == ([offset], [3])
        crew.nack(lease, error="bad") if offset == 2 else crew.ack(lease)
    assert crew.dead() == [(2, 3, "nacked", "bad")]
    assert (crew.lease(4).offsets, crew.position) == ([5, 6, 7, 8], 4)


def test_15_the_last_attempt_after_an_expiry_is_alone(crew: Crew) -> None:
    the_last_attempt_after_an_expiry_is_alone(crew)


def test_15_the_last_attempt_after_a_nack_is_not(crew: Crew) -> None:
    crew.configure(max_attempts=2)
    crew.nack(crew.lease(4))
    again = crew.lease(5)
    assert (again.offsets, again.attempts) == ([1, 2, 3, 4, 5], [2, 2, 2, 2, 1])


def test_15_untried_at_the_last_attempt(crew: Crew) -> None:
    """Given back as often as one likes: the attempt does not count, nothing is buried, and it stays alone."""
    crew.configure(max_attempts=2)
    crew.lost(3)
    for _ in range(5):
        lease = crew.lease(3)
        assert (lease.offsets, lease.attempts) == ([1], [2])
        assert crew.nack(lease, untried=True) == (1, 0)
        for other in (2, 3):
            lease = crew.lease(3)
            assert (lease.offsets, lease.attempts) == ([other], [2])
            assert crew.nack(lease, untried=True) == (1, 0)
    assert crew.dead() == []


def test_15_untried_or_not_has_to_be_said(crew: Crew) -> None:
    lease = crew.lease()
    before = crew.rows()
    with refused("QL009", "true or false"):
        crew.call("nack", lease.id, None, 0, None, None)
    assert crew.rows() == before


def test_15_untried_at_the_first_attempt(crew: Crew) -> None:
    crew.configure(max_attempts=1)
    lease = crew.lease(3)
    assert crew.nack(lease, 2, 3, untried=True, delay=None) == (2, 0)
    again = crew.lease(10)
    assert (again.offsets, again.attempts) == ([2, 3, *range(4, 11)], [1] * 9)
    with refused("QL010", "given these back"):
        crew.ack(lease, 2)


def test_16_17_a_lease_nobody_knows_of_is_unknown(crew: Crew) -> None:
    lease = crew.lease(2)
    for wrong in (
        f"{lease.act}-1",
        "7-7",
        "",
        "nonsense",
        "1",
        "-1-1",
        "1-1-1",
        lease.id + "0",
        "9" * 40,
        None,
    ):
        for call in ("ack_lease", "nack"):
            with refused("QL010", "is unknown"):
                crew.call(call, wrong)
        with refused("QL010", "is unknown"):
            crew.call("extend", wrong, 30)
    assert crew.ack(lease) == 2


def test_17_a_lease_that_a_crash_has_lost(crew: Crew) -> None:
    """Its act is given out again; the id from before does not fit, and the attempt number is the same."""
    crew.session.run("begin")
    lost = crew.lease(2)
    crew.session.run("rollback")  # all that is left of a commit that was not on disk
    again = crew.lease(2)
    assert (again.act, again.offsets, again.attempts) == (lost.act, lost.offsets, [1, 1])
    with refused("QL010", "is unknown"):
        crew.ack(lost)
    assert crew.ack(again) == 2


def test_17_only_a_lease_that_is_not_durable_commits_without_waiting(crew: Crew) -> None:
    setting = "select current_setting('synchronous_commit')"
    for function, durable in [("lease('orders', 'kitchen', 'w', 1, 30, {})", True),
                              ("lease('orders', 'kitchen')", True),
                              ("lease('orders', 'kitchen', 'w', 1, 30, {})", False)]:  # fmt: skip
        crew.session.run("begin", f"select queue.{function.format(durable)}")
        assert crew.session.value(setting) == ("on" if durable else "off")
        crew.session.run("commit")
        assert crew.session.value(setting) == "on"


def test_18_attempts_rise_by_lease_and_not_by_reading(crew: Crew) -> None:
    for attempt in (1, 2, 3):
        crew.session.rows("select queue.fetch('orders', 'kitchen', 5)")
        crew.session.rows("select queue.browse('orders', 1, 5)")
        lease = crew.lease(2)
        assert (lease.offsets, lease.attempts) == ([1, 2], [attempt] * 2)
        crew.nack(lease)


def test_18_with_one_attempt_the_first_failure_buries(crew: Crew) -> None:
    crew.configure(max_attempts=1)
    assert crew.nack(crew.lease(), error="no") == (0, 1)
    crew.lost(2)
    assert crew.lease().offsets == [4]
    crew.lease()
    assert crew.dead() == [(1, 1, "nacked", "no"), (2, 1, "expired", None), (3, 1, "expired", None)]
    assert crew.position == 3


def test_19_buried_by_expiry_with_the_last_error(crew: Crew) -> None:
    crew.configure(max_attempts=3)
    crew.nack(crew.lease(3), error="first")
    lease = crew.lease(3)
    crew.nack(lease, 2, error="second")
    crew.nack(lease)
    for _ in range(3):
        crew.lost(1)
    assert crew.lease().offsets == [4]
    assert crew.dead() == [
        (1, 3, "expired", "first"),
        (2, 3, "expired", "second"),
        (3, 3, "expired", "first"),
    ]


def test_19_tidy_buries_when_no_worker_comes(crew: Crew) -> None:
    crew.configure(max_attempts=1)
    crew.lost(3, worker="gone")
    assert crew.position == 0
    assert crew.session.value("select queue.tidy()") > 0
    assert [offset for offset, *_ in crew.dead()] == [1, 2, 3]
    assert crew.session.value("select distinct worker from queue.dead") == "gone"
    crew.session.run("select queue.tidy()")
    assert crew.position == 3


def test_20_buried_by_a_nack_at_once(crew: Crew) -> None:
    crew.configure(max_attempts=2)
    crew.nack(crew.lease(2), error="once")
    again = crew.lease(3, worker="b")
    assert crew.nack(again, error="x" * 20_000) == (1, 2)
    assert crew.dead() == [(1, 2, "nacked", "x" * 10_000), (2, 2, "nacked", "x" * 10_000)]
    assert crew.position == 2
    dead = 'select worker, key, payload::text, published_at is not null from queue.dead where "offset" = 2'
    assert crew.session.row(dead) == ("b", None, "2", True)
    with refused("QL010", "given these back"):
        crew.ack(again, 1)


def test_20_buried_in_the_transaction_of_the_nack(
    crew: Crew, session: Callable[[], Session]
) -> None:
    other = crew.at(session())
    crew.configure(max_attempts=1)
    lease = crew.lease(2)
    for end in ("rollback", "commit"):
        crew.session.run("begin")
        assert crew.nack(lease, 1, error="no") == (0, 1)
        assert [crew.dead(), other.dead()] == [[(1, 1, "nacked", "no")], []]
        crew.session.run(end)
        assert len(other.dead()) == (end == "commit")
    assert (crew.ack(lease), crew.position) == (1, 2)


def test_21_another_number_of_attempts_counts_from_now_on(crew: Crew) -> None:
    crew.configure(max_attempts=1)
    crew.nack(crew.lease())
    crew.configure(max_attempts=5)
    assert crew.dead() == [(1, 1, "nacked", None)]
    lease = crew.lease()
    assert (lease.offsets, crew.nack(lease)) == ([2], (1, 0))
    lease = crew.lease()
    crew.configure(max_attempts=2)
    assert (lease.offsets, crew.nack(lease)) == ([2], (0, 1))


def test_21_a_lower_number_counts_at_the_next_expiry(crew: Crew) -> None:
    crew.nack(crew.lease(2))
    lost = crew.lease(2, 0.001)
    assert (lost.offsets, lost.attempts) == ([1, 2], [2, 2])
    crew.configure(max_attempts=2)
    crew.is_past(lost.expires_at)
    assert crew.dead() == []
    assert crew.lease(1).offsets == [3]
    assert crew.dead() == [(1, 2, "expired", None), (2, 2, "expired", None)]


def test_22_a_poison_message_blocks_nobody(crew: Crew) -> None:
    crew.configure(max_attempts=3)
    done = []
    while lease := crew.lease(3):
        if not lease.offsets:
            break
        fine = [offset for offset in lease.offsets if offset != 1]
        if fine:
            crew.ack(lease, *fine)
            done += fine
        if 1 in lease.offsets:
            assert crew.session.row('select "position", lag from queue.subscribers') == (0, 10)
            crew.nack(lease, 1, error="poison")
    assert sorted(done) == [*range(2, 11)]
    assert crew.dead() == [(1, 3, "nacked", "poison")]
    assert crew.position == 10


def test_23_a_lease_that_is_extended_for_ever_blocks_nothing_else(crew: Crew) -> None:
    slow = crew.lease(1, worker="slow")
    crew.extend(slow, 3600)
    crew.ack(crew.lease(20))
    assert (crew.position, crew.lease()) == (0, NOTHING)
    seen = "select leased, delayed, dead, redeliveries, oldest_lease_seconds > 0 from queue.workloads()"
    assert crew.session.row(seen) == (1, 0, 0, 0, True)
    assert (crew.ack(slow), crew.position) == (1, 10)
    assert crew.session.row(seen) == (0, 0, 0, 0, None)


BUGS = {
    "an ack ignores expiry": (
        "queue.held", ('if expires_at <= "time" and not isempty(part)', "if false"), an_expired_lease_is_refused),
    "a lease ignores extensions": (
        "queue.take_up", ("when x.expires_at > p_time then", "when false then"), an_extended_lease_is_kept),
    "an ack ignores what was given back": (
        "queue.ack_leases", ("if not isempty(v_held.gone)", "if false"), what_was_given_back_cannot_be_acknowledged),
    "a nack leaves the lease as it is": (
        "queue.settle", ("insert into", "return; insert into"), a_delay_beyond_the_expiry_counts),
    "the same ack is refused": (
        "queue.held", ('"time" and not isempty(part)', '"time"'), the_same_ack_again),
    "the last attempt is in company": (
        "queue.lease_many", ("v_hold.attempt + 1 >=", "v_hold.attempt >="), the_last_attempt_after_an_expiry_is_alone),
    "one attempt counts for all": (
        "queue.nack", ("queue.backoff(v_held.attempts[n]", "queue.backoff(v_held.attempts[1]"),
        each_backs_off_by_its_own_attempt),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_control_a_planted_bug_is_caught(crew: Crew, bug: str) -> None:
    function, change, check = BUGS[bug]
    plant(crew.session, function, change)
    with pytest.raises((AssertionError, pytest.fail.Exception, psycopg2.Error)):
        check(crew)


def test_messages_come_with_all_that_they_have(sql: Session) -> None:
    sql.run("select queue.create_topic('orders')", "select queue.subscribe('orders', 'kitchen', 'earliest')",
            """select queue.publish('orders', '{"a": [1]}', 'k"', '{"h": 1}')""")  # fmt: skip
    row = sql.row("select \"offset\", key, headers::text, payload::text, attempt, expires_at - published_at < '31 s' "
                  "from queue.lease('orders', 'kitchen')")  # fmt: skip
    assert row == (1, 'k"', '{"h": 1}', '{"a": [1]}', 1, True)


def test_a_lease_has_a_limit_in_bytes(crew: Crew) -> None:
    crew.session.run(
        "select queue.publish_batch('orders', (select json_agg(repeat('x', 1000)) from generate_series(1, 30)))"
    )
    crew.ack(crew.lease(10))
    sized = "select \"offset\", lease from queue.lease('orders', 'kitchen', null, 20, 30, true, %s)"

    def taken(max_bytes: int) -> Lease:
        rows = crew.session.rows(sized, max_bytes)
        return Lease(rows[0][1], None, [offset for offset, _ in rows], [], [], [])

    assert taken(1).offsets == [11]
    lease = taken(5010)
    assert lease.offsets == [12, 13, 14, 15, 16]
    crew.nack(lease)
    assert taken(3006).offsets == [12, 13, 14]
    assert taken(1).offsets == [15]
    lease = taken(4008)
    assert lease.offsets == [16, 17, 18, 19]
