"""Subscribing, unsubscribing and fetching beside other sessions, statement by statement."""

import pytest

from tests.sql.session import Session, plant

Sessions = tuple[Session, Session, Session]
ACK = "select \"position\" from queue.ack('orders', 'billing', 3, 0)"


def latest_is_exact(a: Session, b: Session, reader: Session) -> None:
    """Who subscribes while a publish is on its way starts behind it, if it commits."""
    for end, head in (("rollback", 5), ("commit", 6)):
        a.run("begin", "select queue.publish('orders', '6')")
        b.start(f"select (subscriber).\"position\" from queue.subscribe('orders', '{end}')")
        assert b.settles() == "waiting" and b.blockers() == [a.pid]
        a.run(end)
        assert b.outcome() == head
    a.run("select queue.publish('orders', '7')")
    assert reader.rows("select \"offset\" from queue.fetch('orders', 'commit')") == [(7,)]


def test_latest_is_exact(readers: Sessions) -> None:
    latest_is_exact(*readers)


def test_control_a_subscribe_without_the_lock_is_caught(readers: Sessions) -> None:
    plant(readers[0], "queue.lock_topic", ("perform pg_advisory_xact_lock(42, v_topic_id);", ""))
    with pytest.raises(AssertionError):
        latest_is_exact(*readers)


def test_one_of_two_makers_of_a_subscriber_finds_it(readers: Sessions) -> None:
    a, b, reader = readers
    a.run("begin", "select queue.subscribe('orders', 'mailer', 'earliest')")
    b.start("select created from queue.subscribe('orders', 'mailer', 'latest')")
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() is False
    assert reader.value("select \"position\" from queue.get_subscriber('orders', 'mailer')") == 0


def test_an_ack_for_a_subscriber_that_is_going_leaves_nothing(readers: Sessions) -> None:
    a, b, reader = readers
    a.run("begin", "select queue.unsubscribe('orders', 'billing')")
    b.start(ACK)
    assert b.settles() == "done"
    b.outcome()  # it came first, or too late: nobody can tell
    a.run("commit")
    assert b.attempt(ACK) == "QL002"
    reader.run("select queue.tidy()")
    assert reader.value("select count(*) from queue.position") == 1


def test_a_subscriber_does_not_outlive_its_topic(readers: Sessions) -> None:
    a, b, reader = readers
    a.run("begin", "select queue.delete_topic('orders')")
    b.start("select queue.subscribe('orders', 'mailer')")
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() == "QL001"
    assert (
        reader.value(
            "select (select count(*) from queue.subscriber) + (select count(*) from queue.position)"
        )
        == 0
    )


def test_fetch_in_an_old_snapshot_stays_in_it(readers: Sessions) -> None:
    a, b, _ = readers
    fetched = (
        "select array_agg(\"offset\" order by \"offset\") from queue.fetch('orders', 'billing')"
    )
    a.run("begin isolation level repeatable read", "select count(*) from queue.message")
    b.run("select queue.publish('orders', '6')", ACK)
    assert a.value(fetched) == [1, 2, 3, 4, 5]
    a.run("commit")
    assert a.value(fetched) == [4, 5, 6]
