"""Subscribers: subscribe, look at, list, unsubscribe; and which position a time means."""

import random
from bisect import bisect_left

import pytest

from tests.sql.session import Session, plant, refused
from tests.sql.test_topics import HOSTILE_NAMES

SUBSCRIBE = """
select (subscriber)."position", (subscriber).epoch, created
from queue.subscribe('orders', %s, %s, %s, %s)
"""
OFFSETS_AT = """
select queue.offset_at(topic_id, '2024-01-01'::timestamptz + s * interval '1 second')
from queue.topic, generate_series(-1, %s) s order by s
"""


@pytest.fixture
def five(orders: Session) -> Session:
    """Five messages, published at the seconds 10, 20, 20, 30 and 40 of a minute."""
    keep(orders, [10, 20, 20, 30, 40])
    return orders


def keep(sql: Session, seconds: list[int]) -> None:
    """Put messages that were published at these seconds into the log."""
    sql.rows(
        'insert into queue.message (topic_id, "offset", published_at, payload) '
        "select topic_id, n, '2024-01-01'::timestamptz + s * interval '1 second', '0' "
        "from queue.topic, unnest(%s::int[]) with ordinality u(s, n)",
        seconds,
    )


def second(number: int) -> str:
    return f"2024-01-01T00:00:{number:02}Z"


def test_a_new_subscriber_starts_where_it_is_told(five: Session) -> None:
    five.run("set timezone = 'UTC'")
    for name, start, offset, timestamp, position in (
        ("a", "latest", None, None, 5),
        ("b", "earliest", None, None, 0),
        ("c", "latest", 0, None, 0),
        ("d", "latest", 3, None, 3),
        ("e", "earliest", 5, None, 5),
        ("f", "latest", None, second(20), 1),
        ("g", "latest", None, second(21), 3),
        ("h", "latest", None, "-infinity", 0),
        ("i", "earliest", None, "infinity", 5),
    ):
        assert five.row(SUBSCRIBE, name, start, offset, timestamp) == (position, 0, True), name
    history = five.rows(
        'select "offset", move, epoch, cause from queue.position order by subscriber_id'
    )
    assert history == [(offset, 1, 0, "start") for offset in (5, 0, 0, 3, 5, 1, 3, 0, 5)]


def test_a_topic_with_nothing_in_it_starts_at_0(orders: Session) -> None:
    for name, start in (("a", "latest"), ("b", "earliest")):
        assert orders.row(SUBSCRIBE, name, start, None, None) == (0, 0, True)
    assert orders.row(SUBSCRIBE, "c", "latest", None, "2024-01-01") == (0, 0, True)


def test_a_subscriber_that_is_there_already_is_not_moved(five: Session) -> None:
    assert five.row(SUBSCRIBE, "billing", "latest", 2, None) == (2, 0, True)
    for start, offset, timestamp in (
        ("latest", None, None),
        ("earliest", 4, None),
        ("latest", None, "infinity"),
    ):
        assert five.row(SUBSCRIBE, "billing", start, offset, timestamp) == (2, 0, False)
    assert five.value("select count(*) from queue.position") == 1


def test_a_start_out_of_range_makes_no_subscriber(five: Session) -> None:
    for offset in (-1, 6, 2**63 - 1, -(2**63)):
        with refused("QL004", f"offset {offset} is out of range: topic 'orders' takes 0 to 5 here",
                     {"floor": 1, "head": 5}):  # fmt: skip
            five.rows(SUBSCRIBE, "a", "latest", offset, None)
    five.run("update queue.topic set floor = 3")
    with refused("QL004", "topic 'orders' takes 2 to 5 here", {"floor": 3, "head": 5}):
        five.rows(SUBSCRIBE, "a", "latest", 1, None)
    assert five.value("select count(*) from queue.subscriber") == 0
    assert five.row(SUBSCRIBE, "a", "latest", 2, None) == (2, 0, True)
    assert five.row(SUBSCRIBE, "b", "earliest", None, None) == (2, 0, True)


def test_a_start_that_says_nothing_is_refused(five: Session) -> None:
    for start in ("", "newest", "LATEST", None):
        with refused("QL009", "start is latest, earliest, a position or a timestamp"):
            five.rows(SUBSCRIBE, "a", start, None, None)
    with refused("QL009", "give an offset or a timestamp, and only one of them"):
        five.rows(SUBSCRIBE, "a", "latest", 1, "2024-01-01")
    with refused("QL001", "topic 'other' does not exist"):
        five.run("select queue.subscribe('other', 'a')")
    assert five.value("select count(*) from queue.subscriber") == 0


def test_hostile_names_are_refused_and_find_nobody(orders: Session) -> None:
    for name in HOSTILE_NAMES[1:]:
        with refused("QL007", "cannot be the name of a subscriber"):
            orders.rows(SUBSCRIBE, name, "latest", None, None)
    for name in HOSTILE_NAMES:
        for call in ("get_subscriber(%s, %s)", "unsubscribe(%s, %s)", "fetch(%s, %s)", "ack(%s, %s, 0, 0)",
                     "seek(%s, %s, 0)"):  # fmt: skip
            with refused("QL002", "topic 'orders' has no subscriber "):
                orders.rows(f"select queue.{call}", "orders", name)
    assert orders.value("select count(*) from queue.subscriber") == 0


def test_no_name_makes_one_up(orders: Session) -> None:
    made = "select (s.subscriber).subscriber, s.created from queue.subscribe('orders') s"
    names = {orders.row(made) for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("subscriber-") and created for name, created in names)


def test_subscribers_are_listed_in_byte_order_a_page_at_a_time(orders: Session) -> None:
    orders.run("select queue.create_topic('other')", "select queue.subscribe('other', 'c')")
    for name in ("b", "a", "B", "_"):
        orders.rows(SUBSCRIBE, name, "latest", None, None)
    page = "select subscriber from queue.list_subscribers('orders', %s, %s)"
    for arguments, names in (
        ((None, 9), "B_ab"),
        ((None, 2), "B_"),
        (("_", 2), "ab"),
        (("b", 2), ""),
        ((None, 0), ""),
    ):
        assert "".join(name for (name,) in orders.rows(page, *arguments)) == names
    assert len(orders.rows("select queue.list_subscribers('orders')")) == 4


def test_unsubscribe_leaves_nothing_behind(orders: Session) -> None:
    orders.run(
        "select queue.publish('orders', '1')",
        "select queue.subscribe('orders', 'a', 'earliest'), queue.subscribe('orders', 'b', 'earliest')",
        "select queue.ack('orders', 'a', 1, 0), queue.seek('orders', 'a', 0)",
        "select queue.unsubscribe('orders', 'a')",
    )
    assert orders.rows("select name from queue.subscriber") == [("b",)]
    assert orders.value("select count(*) from queue.position") == 1
    for call in ("unsubscribe('orders', 'a')", "get_subscriber('orders', 'a')"):
        with refused("QL002", "topic 'orders' has no subscriber 'a'"):
            orders.run(f"select queue.{call}")
    assert orders.row(SUBSCRIBE, "a", "latest", None, None) == (1, 0, True)  # a new one: epoch 0


def times_mean_positions(sql: Session) -> None:
    """Every time means the first offset published at or after it: the search against a list."""
    chance = random.Random(20240229)
    for length in (0, 1, 2, 3, 7, 64, 100):
        sql.run("truncate queue.message")
        seconds = sorted(chance.choices(range(60), k=length))
        keep(sql, seconds)
        expected = [bisect_left(seconds, s) + 1 for s in range(-1, 62)]
        assert [offset for (offset,) in sql.rows(OFFSETS_AT, 61)] == expected


def test_a_time_means_the_first_message_at_or_after_it(orders: Session) -> None:
    times_mean_positions(orders)


def test_control_a_search_that_is_off_by_one_is_caught(orders: Session) -> None:
    plant(
        orders, "queue.offset_at", ("m.published_at >= p_timestamp", "m.published_at > p_timestamp")
    )
    with pytest.raises(AssertionError):
        times_mean_positions(orders)


def test_a_time_never_means_less_than_the_floor(five: Session) -> None:
    five.run(
        "set timezone = 'UTC'",
        'delete from queue.message where "offset" < 3',
        "update queue.topic set floor = 3",
    )
    offsets = [offset for (offset,) in five.rows(OFFSETS_AT, 41)]
    assert offsets == [3] * 22 + [4] * 10 + [5] * 10 + [6]
