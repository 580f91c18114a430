"""The numbers of topics and subscribers: none is wasted, none is given out twice, wherever their sequences stand."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg2.extensions import connection

from tests.sql.session import Session, plant, refused

TOPICS = "queue.topic_topic_id_seq"
SUBSCRIBERS = "queue.subscriber_subscriber_id_seq"
LAST = 2**31 - 1


def given_out(sql: Session) -> tuple[int, int]:
    """Return how far the sequences have come."""
    return (
        sql.value(f"select last_value from {TOPICS}"),
        sql.value(f"select last_value from {SUBSCRIBERS}"),
    )


def cut_over(sql: Session) -> None:
    """Leave the database as a subscription leaves one: logical replication carries no sequences."""
    sql.run(f"select setval('{TOPICS}', 1, false), setval('{SUBSCRIBERS}', 1, false)")


def number_of(sql: Session, topic: str) -> int:
    return int(sql.value("select topic_id from queue.create_topic(%s)", topic))


def fill(sql: Session) -> None:
    """Make three topics and their subscribers; delete one, which leaves something of everything behind."""
    for topic in ("a", "b", "c"):
        sql.run(
            f"select queue.create_topic('{topic}')",
            f"select queue.publish_batch('{topic}', '[1,2]', p_producer => 'p', p_sequence => 1)",
            f"select queue.subscribe('{topic}', 's', 'earliest')",
        )
    sql.run(
        "delete from queue.topic where name = 'c'",
        "delete from queue.subscriber where topic_id = 3",
    )


def test_a_refusal_takes_no_number(orders: Session) -> None:
    orders.run("select queue.subscribe('orders', 'billing')")
    before = given_out(orders)
    for _ in range(3):
        with refused("QL003"):
            orders.run("select queue.create_topic('orders')")
        with refused("QL007"):
            orders.run("select queue.create_topic('or ders')")
        with refused("QL004", detail={"floor": 1, "head": 0}):
            orders.run("select queue.subscribe('orders', 'new', p_offset => 1)")
        assert orders.value("select created from queue.subscribe('orders', 'billing')") is False
    assert given_out(orders) == before == (1, 1)


def test_after_a_cut_over_everything_can_be_made(sql: Session) -> None:
    fill(sql)
    cut_over(sql)
    with refused("QL003", "topic 'a' exists already"):
        sql.run("select queue.create_topic('a')")
    assert sql.value("select created from queue.subscribe('a', 'new')") is True
    assert number_of(sql, "d") == 4
    assert sql.row("select head, subscribers from queue.get_topic('d')") == (0, 0)
    assert sql.row("select * from queue.publish_batch('d', '[9]', null, null, 'p', 1)") == (
        1,
        1,
        False,
    )
    made = sql.row('select created, (subscriber)."position", (subscriber).subscriber_id from queue.subscribe(%s, %s)',
                   "d", "s")  # fmt: skip
    assert made == (True, 1, 5)
    assert sql.rows("select topic, head, subscribers from queue.list_topics()") == [
        ("a", 2, 2), ("b", 2, 1), ("d", 1, 1)]  # fmt: skip


@pytest.mark.parametrize("kept", ["topic", "subscriber", "publication", "message"])
def test_a_number_of_which_anything_is_left_is_no_new_topics(sql: Session, kept: str) -> None:
    fill(sql)
    for table in {"topic", "subscriber", "publication", "message"} - {kept}:
        sql.run(f"delete from queue.{table}")
    cut_over(sql)
    last = sql.value(f"select max(topic_id) from queue.{kept}")
    assert [number_of(sql, name) for name in ("d", "e")] == [last + 1, last + 2]


def test_a_subscriber_inherits_no_history(sql: Session) -> None:
    fill(sql)
    sql.run("delete from queue.subscriber")
    cut_over(sql)
    number = "select (subscriber).subscriber_id from queue.subscribe('a', %s)"
    assert [sql.value(number, name) for name in ("x", "y")] == [4, 5]


def test_after_the_last_number_comes_the_first_free_one(sql: Session) -> None:
    fill(sql)
    sql.run(f"select setval('{TOPICS}', {LAST - 1})")
    assert number_of(sql, "last") == LAST
    assert [number_of(sql, name) for name in ("d", "e")] == [4, 5]
    sql.run("select queue.delete_topic('last')")
    assert number_of(sql, "f") == 6


def test_two_that_get_the_same_number_at_the_same_time(
    sql: Session, session: Callable[[], Session]
) -> None:
    other = session()
    sql.run("begin", "select queue.create_topic('a')")
    cut_over(other)
    other.start("select topic_id from queue.create_topic('b')")
    assert other.waits_for(sql)
    sql.run("commit")
    assert other.outcome() == 2
    assert sql.rows("select topic, topic_id from queue.list_topics()") == [("a", 1), ("b", 2)]


def test_two_that_make_the_same_topic_at_the_same_time(
    sql: Session, session: Callable[[], Session]
) -> None:
    other = session()
    sql.run("begin", "select queue.create_topic('a')")
    other.start("select queue.create_topic('a')")
    assert other.waits_for(sql)
    sql.run("commit")
    assert other.outcome() == "QL003"


def crowd(sql: Session, connect: Callable[[], connection]) -> list[int]:
    """Make topics from several sessions at once while the sequence is set back; return their numbers."""

    def make(own: connection, name: str) -> list[int]:
        own.autocommit = True
        with own.cursor() as cursor:
            numbers = []
            for n in range(25):
                if n % 10 == 5:
                    cursor.execute(f"select setval('{TOPICS}', 1)")
                cursor.execute("select topic_id from queue.create_topic(%s)", (f"{name}-{n}",))
                numbers += [number for (number,) in cursor.fetchall()]
                cursor.execute("select queue.publish(%s, '1')", (f"{name}-{n}",))
            return numbers

    with ThreadPoolExecutor(4) as threads:
        made = [threads.submit(make, connect(), name) for name in "abcd"]
        return [number for one in made for number in one.result(60)]


def test_a_crowd_that_finds_the_sequence_behind(
    sql: Session, connect: Callable[[], connection]
) -> None:
    numbers = crowd(sql, connect)
    assert len(numbers) == len(set(numbers)) == 100
    assert sql.rows("select distinct head from queue.topics") == [(1,)]


def test_control_numbers_straight_from_the_sequence_are_caught(
    sql: Session, connect: Callable[[], connection]
) -> None:
    plant(sql, "queue.next_topic_id", ("if not exists", "if true or not exists"))
    plant(sql, "queue.create_topic", ("exit when found", "exit"))
    with refused("QL001", "does not exist"):
        crowd(sql, connect)


@pytest.mark.parametrize("call", ["publish('a', '1')", "subscribe('a')", "delete_topic('a')"])
def test_who_waits_for_a_topic_gets_no_other_one(
    sql: Session, session: Callable[[], Session], call: str
) -> None:
    waiting = session()
    sql.run("select queue.create_topic('a')", "begin", "select queue.delete_topic('a')")
    waiting.start(f"select queue.{call}")
    assert waiting.waits_for(sql)
    cut_over(sql)
    assert number_of(sql, "b") == 1
    sql.run("commit")
    assert waiting.outcome() == "QL001"
    assert sql.rows("select topic, head, subscribers from queue.topics") == [("b", 0, 0)]
