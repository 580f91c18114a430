"""Leases and acks of several callers in one statement, as a server makes them."""

import json
from typing import Any

import pytest

from tests.sql.session import plant, refused
from tests.sql.working import Crew, published

MANY = """
select caller, lease, "offset", attempt, expires_at - clock_timestamp() > interval '1 min'
from queue.lease_many('orders', 'kitchen', %s, %s, %s)
"""
JSON = "select * from queue.lease_json('orders', 'kitchen', %s, %s, %s)"
ACKS = "select acked, position, lag from queue.ack_leases('orders', 'kitchen', %s, %s)"


def leased(crew: Crew, limits: list[int], seconds: float = 30) -> dict[int, tuple[str, list[int]]]:
    """Lease for workers a, b …; return for each caller its lease and what it holds."""
    names = [chr(ord("a") + n) for n in range(len(limits))]
    found: dict[int, tuple[str, list[int]]] = {}
    for caller, lease, offset, *_ in crew.session.rows(
        MANY, names, limits, [seconds] * len(limits)
    ):
        assert found.setdefault(caller, (lease, []))[0] == lease
        found[caller][1].append(offset)
    return found


def each_has_a_lease_of_its_own(crew: Crew) -> None:
    crew.nack(crew.lease(4), delay=0)
    found = leased(crew, [1, 2, 3, 20, 5])
    assert [offsets for _, offsets in found.values()] == [[1], [2, 3], [4, 5, 6], [7, 8, 9, 10]]
    assert list(found) == [1, 2, 3, 4]
    assert len({lease for lease, _ in found.values()}) == 4
    workers = crew.session.rows(
        "select worker, offsets::text, attempt from queue.leases order by lease"
    )
    assert workers == [
        ("a", "{[1,2)}", 2),
        ("b", "{[2,4)}", 2),
        ("c", "{[4,7)}", 2),
        ("d", "{[7,11)}", 1),
    ]
    with refused("QL009"):
        crew.call("ack_lease", found[2][0], [1])
    for lease, offsets in found.values():
        assert crew.call("ack_lease", lease)[0] == len(offsets)
    assert crew.position == 10


def test_each_has_a_lease_of_its_own(crew: Crew) -> None:
    each_has_a_lease_of_its_own(crew)


def test_control_callers_that_share_are_noticed(crew: Crew) -> None:
    plant(
        crew.session, "queue.lease_many", ("v_from := v_take.upto;", "v_from := v_take.upto - 1;")
    )
    with pytest.raises(Exception):  # noqa: B017 - a wrong result or an error, both are noticed
        each_has_a_lease_of_its_own(crew)


def test_each_has_its_own_time(crew: Crew) -> None:
    rows = crew.session.rows(MANY, ["a", None], [1, 1], [10, 100])
    assert [row[4] for row in rows] == [False, True]


def test_each_can_be_acknowledged_though_nobody_is_named(crew: Crew) -> None:
    rows = crew.session.rows(MANY, None, [1, 2], [30, 30])
    assert [(caller, offset) for caller, _, offset, *_ in rows] == [(1, 1), (2, 2), (2, 3)]
    assert [crew.call("ack_lease", lease)[0] for lease in (rows[0][1], rows[1][1])] == [1, 2]


def test_a_message_larger_than_a_share_comes_again(crew: Crew) -> None:
    """A key of characters that have to be escaped is six times as long as text: nobody waits behind it for ever."""
    crew.ack(crew.lease(10))
    crew.session.rows("select queue.publish('orders', '1', repeat(chr(1), 1000000))")
    published(crew.session, 3)
    crew.nack(crew.lease(1))
    assert leased(crew, [9, 9])[1][1] == [11]
    assert leased(crew, [9, 9])[1][1] == [12, 13, 14]


def test_one_bad_caller_and_nothing_is_done(crew: Crew) -> None:
    for limits, seconds in (([1, 0], [30, 30]), ([1, 1], [30, 0]), ([1, 1], [30])):
        with refused("QL009"):
            crew.session.rows(MANY, ["a", "b"], limits, seconds)
    assert crew.rows()["hold"] == 0


def test_the_last_attempt_is_alone_here_too(crew: Crew) -> None:
    crew.configure(max_attempts=2)
    crew.lost(3)
    found = leased(crew, [5, 5, 5, 5])
    assert [offsets for _, offsets in found.values()] == [[1], [2], [3], [4, 5, 6, 7, 8]]


def test_with_order_a_key_goes_to_one_caller(orders: Any) -> None:
    published(orders, 8, keys="aabbaacc")
    orders.run("select queue.subscribe('orders', 'kitchen', 'earliest', p_ordered => true)")
    crew = Crew(orders)
    found = leased(crew, [1, 2, 3, 9])
    assert [offsets for _, offsets in found.values()] == [[1], [3, 4], [7, 8]]
    assert crew.call("ack_lease", found[1][0])[0] == 1
    assert leased(crew, [2, 2]) == {1: (leased_id(crew, 2), [2, 5])}


def leased_id(crew: Crew, offset: int) -> str:
    act, secret = crew.session.row(
        "select act, secret from queue.hold where offsets @> %s::bigint and kind = 'l' order by act desc limit 1",
        offset,
    )
    return f"{act}-{secret}"


def test_acks_of_several_leases(crew: Crew) -> None:
    found = leased(crew, [2, 3, 4])
    leases = [lease for lease, _ in found.values()]
    assert crew.session.rows(ACKS, leases[:2], json.dumps([[2], None])) == [(1, 0, 10), (3, 0, 10)]
    assert crew.session.rows(ACKS, [leases[2], leases[0], leases[1]], None) == [
        (4, 9, 1),
        (1, 9, 1),
        (0, 9, 1),
    ]
    assert crew.session.rows(ACKS, [], None) == []


def test_the_same_lease_twice_in_one_call(crew: Crew) -> None:
    ((lease, _),) = leased(crew, [4]).values()
    assert crew.session.rows(ACKS, [lease] * 3, "[[1], [1, 2], null]") == [
        (1, 4, 6),
        (1, 4, 6),
        (2, 4, 6),
    ]


@pytest.mark.parametrize("bad", ['[null, "1"]', '[null, {}]', "[null, [1.5]]", '[null, ["1"]]', "[null, [true]]",
                                 "[null, []]", "[null, [99999999999999999999]]"])  # fmt: skip
def test_one_bad_ack_and_nothing_is_done(crew: Crew, bad: str) -> None:
    leases = [lease for lease, _ in leased(crew, [2, 2]).values()]
    before = crew.rows()
    with refused("QL009"):
        crew.session.rows(ACKS, leases, bad)
    with refused("QL010"):
        crew.session.rows(ACKS, [leases[0], "7-7"], None)
    assert crew.rows() == before


def test_as_json(crew: Crew) -> None:
    crew.nack(crew.lease(1), delay=3600)
    first, second, third = crew.session.rows(JSON, ["a", "b", "c"], [2, 20, 1], [30, 60, 1])
    messages = json.loads(f"[{first[2]}]")
    assert [sorted(message) for message in messages] == [
        ["attempt", "offset", "payload", "published_at"]
    ] * 2
    assert [(one["offset"], one["attempt"], one["payload"]) for one in messages] == [
        (2, 1, 2),
        (3, 1, 3),
    ]
    assert first[0] != second[0] and second[1] > first[1] and first[3] is second[3] is None
    assert [one["offset"] for one in json.loads(f"[{second[2]}]")] == [*range(4, 11)]
    assert third[:3] == (None, None, "") and 25 < third[3] <= 30


def test_as_json_with_key_and_headers(crew: Crew) -> None:
    crew.session.run(
        "select queue.seek('orders', 'kitchen', 10)",
        """select queue.publish('orders', '"é"', 'k', '{"h":1}')""",
    )
    ((_, _, text, _),) = crew.session.rows(JSON, ["a"], [1], [30])
    message = json.loads(text)
    message.pop("published_at")
    assert message == {"offset": 11, "key": "k", "headers": {"h": 1}, "attempt": 1, "payload": "é"}


def test_when_there_is_something_to_do_again(crew: Crew) -> None:
    due = "select extract(epoch from queue.next_due('orders', 'kitchen') - clock_timestamp())"
    assert crew.session.value(due) <= 0  # at once
    lease = crew.lease(20, 100)
    assert 90 < crew.session.value(due) <= 100
    crew.extend(lease, 1000)
    assert 900 < crew.session.value(due) <= 1000
    crew.nack(lease, 3, delay=50)
    assert 40 < crew.session.value(due) <= 50
    crew.ack(lease)
    assert 40 < crew.session.value(due) <= 50
    crew.session.run("update queue.hold set due_at = clock_timestamp() where kind = 'r'")
    assert crew.session.value(due) <= 0
    crew.ack(crew.lease(5))
    assert crew.session.value(due) is None
    ((*_, never),) = crew.session.rows(JSON, ["a"], [1], [30])
    assert never is None


def test_due_is_found_behind_what_was_extended(crew: Crew) -> None:
    """A long extension at the front, many leases behind it that are done, then what is due before it ends."""
    published(crew.session, 300)
    crew.extend(crew.lease(1, 30), 3600)
    crew.session.run("do $$ begin for n in 1..220 loop perform queue.ack_lease('orders', 'kitchen', l.lease) "
                     "from queue.lease('orders', 'kitchen', null, 1, 1000) l; end loop; end $$")  # fmt: skip
    crew.nack(crew.lease(1, 1000), delay=1100)
    crew.ack(crew.lease(1000, 1000))
    due = "select extract(epoch from queue.next_due('orders', 'kitchen') - clock_timestamp())"
    assert 900 < crew.session.value(due) <= 1000  # when there is more to look through


def test_due_is_found_behind_what_is_settled(crew: Crew) -> None:
    """A hole at the front, and many leases behind it, done and due: nobody is told to come again for ever."""
    published(crew.session, 400)
    hole = crew.lease(1, 3600)
    crew.session.run("do $$ begin for n in 1..400 loop perform queue.ack_lease('orders', 'kitchen', l.lease) "
                     "from queue.lease('orders', 'kitchen', null, 1, 3600) l; end loop; end $$")  # fmt: skip
    crew.ack(crew.lease(20, 3600))
    crew.session.rows(
        "update queue.hold set due_at = clock_timestamp() where act <> %s returning act", hole.act
    )  # none was due before all were done, however long that took
    due = "select queue.next_due('orders', 'kitchen') > clock_timestamp() + interval '10 min'"
    calls = 0
    while not crew.session.value(due):
        assert not crew.lease(1).offsets
        calls += 1
        assert calls < 10
    assert (
        calls >= 2
        and crew.session.value("select kind from queue.hold order by act desc limit 1") == "i"
    )
