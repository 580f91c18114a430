"""Publishes of two and three sessions, statement by statement."""

from collections.abc import Callable

import pytest

from tests.sql.session import Session, plant

Sessions = tuple[Session, Session, Session]
READ = 'select coalesce(array_agg("offset" order by "offset"), \'{}\') from queue.browse(%s)'
CONTENT = (
    "select coalesce(array_agg(payload::text order by \"offset\"), '{}') from queue.browse(%s)"
)

LOCK = "perform pg_advisory_xact_lock(42, v_topic_id);"
CLOCK = "greatest(clock_timestamp(), m.published_at)"


@pytest.fixture
def three(orders: Session, session: Callable[[], Session]) -> Sessions:
    """Sessions a, b and c, and the topics `orders` and `other`."""
    orders.run("select queue.create_topic('other')")
    return orders, session(), session()


def publish(topic: str, payload: str) -> str:
    return f"select queue.publish('{topic}', '\"{payload}\"')"


def a_late_commit_is_not_overtaken(a: Session, b: Session, reader: Session) -> None:
    """b publishes after a and cannot commit before it; the reader sees a prefix at all times."""
    a.run("begin")
    assert a.value(publish("orders", "a")) == 1
    b.start(publish("orders", "b"))
    state = b.settles()
    assert reader.value(READ, "orders") == []
    assert state == "waiting" and b.blockers() == [a.pid]
    a.run("commit")
    assert b.outcome() == 2
    assert reader.value(CONTENT, "orders") == ['"a"', '"b"']


def a_rollback_leaves_no_hole(a: Session, b: Session, reader: Session) -> None:
    a.run("begin")
    assert a.value(publish("orders", "a")) == 1
    b.start(publish("orders", "b"))
    assert b.waits_for(a)
    a.run("rollback")
    assert b.outcome() == 1
    assert reader.value(CONTENT, "orders") == ['"b"']


def published_at_follows_the_offsets(a: Session, b: Session, reader: Session) -> None:
    """Also when the transaction that publishes last began first."""
    a.run("begin", "select now()")
    b.run(publish("orders", "b"))
    a.run(publish("orders", "a"), "commit")
    times = [time for (time,) in reader.rows("select published_at from queue.browse('orders')")]
    assert len(times) == 2
    assert times == sorted(times)


CHECKS = [
    a_late_commit_is_not_overtaken,
    a_rollback_leaves_no_hole,
    published_at_follows_the_offsets,
]
NUMBERED = "if p_producer is not null then\n        select"
SEQUENCE = [(LOCK, ""), (NUMBERED, "v_head := nextval('queue.offsets') - 1;\n    " + NUMBERED)]
BUGS = {
    "a sequence, late commit": (SEQUENCE, a_late_commit_is_not_overtaken),
    "a sequence, rollback": (SEQUENCE, a_rollback_leaves_no_hole),
    "max + 1 without a lock": ([(LOCK, "")], a_late_commit_is_not_overtaken),
    "the lock after the head": (
        [(LOCK, ""), (NUMBERED, LOCK + NUMBERED)],
        a_late_commit_is_not_overtaken,
    ),
    "published_at from now()": ([(CLOCK, "now()")], published_at_follows_the_offsets),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_publishes(three: Sessions, check: Callable[[Session, Session, Session], None]) -> None:
    check(*three)


@pytest.mark.parametrize("bug", BUGS)
def test_control_a_planted_bug_is_caught(three: Sessions, bug: str) -> None:
    changes, check = BUGS[bug]
    three[0].run(
        "create sequence queue.offsets", "alter sequence queue.offsets owner to queue_owner"
    )
    plant(three[0], "queue.publish_batch", *changes)
    with pytest.raises(AssertionError):
        check(*three)


def test_two_topics_do_not_wait_for_each_other(three: Sessions) -> None:
    a, b, reader = three
    a.run("begin", publish("orders", "a"))
    b.start(publish("other", "b"))
    assert b.settles() == "done"
    assert b.outcome() == 1
    assert (reader.value(READ, "orders"), reader.value(READ, "other")) == ([], [1])


def test_three_publishers_are_served_in_order(
    three: Sessions, session: Callable[[], Session]
) -> None:
    a, b, c = three
    a.run("begin", publish("orders", "a"))
    for waiting, name in ((b, "b"), (c, "c")):
        waiting.start(
            "select first_offset from queue.publish_batch('orders', %s)", f'["{name}1","{name}2"]'
        )
        assert waiting.waits_for(a)
    a.run("commit")
    assert (b.outcome(), c.outcome()) == (2, 4)
    assert session().value(CONTENT, "orders") == ['"a"', '"b1"', '"b2"', '"c1"', '"c2"']


def test_an_effect_and_its_publish_commit_together(three: Sessions) -> None:
    a, _, reader = three
    a.run("create table sale (id int)")
    seen = (
        "select (select count(*) from sale), (select head from queue.topics where topic = 'orders')"
    )
    for end, after in (("rollback", (0, 0)), ("commit", (1, 1))):
        a.run("begin", "insert into sale values (1)", publish("orders", "sale 1"))
        assert reader.row(seen) == (0, 0)
        a.run(end)
        assert reader.row(seen) == after


def a_stale_snapshot_is_told_to_try_again(a: Session, b: Session, reader: Session) -> None:
    for level in ("repeatable read", "serializable"):
        head = reader.value("select head from queue.topics where topic = 'orders'")
        a.run(f"begin isolation level {level}", "select count(*) from queue.topic")
        assert b.value(publish("orders", "b")) == head + 1
        assert a.attempt(publish("orders", "a")) == "40001"
        a.run("rollback", f"begin isolation level {level}")
        assert a.attempt(publish("orders", "a")) == head + 2
        a.run("commit")
    assert reader.value(CONTENT, "orders") == ['"b"', '"a"', '"b"', '"a"']


def test_a_stale_snapshot_is_told_to_try_again(three: Sessions) -> None:
    a_stale_snapshot_is_told_to_try_again(*three)


def test_control_a_publish_that_trusts_its_snapshot_is_caught(three: Sessions) -> None:
    change = ("current_setting('transaction_isolation') <> 'read committed'", "false")
    plant(three[0], "queue.publish_batch", change)
    with pytest.raises(AssertionError):
        a_stale_snapshot_is_told_to_try_again(*three)


def test_a_snapshot_that_sees_the_head_publishes_as_usual(three: Sessions) -> None:
    a, b, reader = three
    for level in ("read uncommitted", "read committed", "repeatable read", "serializable"):
        a.run(f"begin isolation level {level}", publish("orders", "1"))
        a.run("select queue.publish_batch('orders', '[2,3]')", publish("other", "4"), "commit")
    assert reader.value(READ, "orders") == [*range(1, 13)]
    assert reader.value(CONTENT, "orders") == ['"1"', "2", "3"] * 4
    assert reader.value(READ, "other") == [1, 2, 3, 4]
    assert reader.value("select count(*) from queue.message") == 16


def test_a_retry_in_a_stale_snapshot_finds_its_first_try(three: Sessions) -> None:
    a, b, _ = three
    numbered = "select * from queue.publish_batch('orders', '[1]', null, null, 'shop', 1)"
    assert a.row(numbered) == (1, 1, False)
    a.run("begin isolation level repeatable read", "select count(*) from queue.topic")
    b.run(publish("orders", "b"))
    assert a.row(numbered) == (1, 1, True)
    a.run("commit")


def test_a_snapshot_that_grew_stale_while_waiting_is_told_too(three: Sessions) -> None:
    a, b, reader = three
    a.run("begin", publish("orders", "a"))
    b.run("begin isolation level repeatable read")
    b.start(publish("orders", "b"))
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() == "40001"
    b.run("rollback")
    assert b.value(publish("orders", "b")) == 2
    assert reader.value(CONTENT, "orders") == ['"a"', '"b"']


def test_a_numbered_publish_whose_first_try_is_still_on_its_way(three: Sessions) -> None:
    a, b, reader = three
    numbered = "select * from queue.publish_batch('orders', '[1]', null, null, 'shop', 1)"
    for end, expected in (("rollback", False), ("commit", True)):
        a.run("begin", numbered)
        b.start("select duplicate from (" + numbered + ") p")
        assert b.waits_for(a)
        a.run(end)
        assert b.outcome() is expected
        assert reader.value(READ, "orders") == [1]


def test_a_deadlock_harms_one_and_stores_nothing_of_it(three: Sessions) -> None:
    a, b, reader = three
    a.run("begin", publish("orders", "a"))
    b.run("begin", publish("other", "b"))
    a.start(publish("other", "a"))
    assert a.waits_for(b)
    b.start(publish("orders", "b"))
    outcomes = {"a": a.outcome(), "b": b.outcome()}
    assert sorted(outcomes.values(), key=str) in ([1, "40P01"], [2, "40P01"])
    a.run("commit")
    b.run("commit")
    (winner,) = [name for name, outcome in outcomes.items() if outcome != "40P01"]
    assert reader.value(CONTENT, "orders") == reader.value(CONTENT, "other") == [f'"{winner}"']


def test_a_late_publisher_finds_no_topic(three: Sessions) -> None:
    a, b, reader = three
    for make_again in ([], ["select queue.create_topic('orders')"]):
        a.run("begin", "select queue.delete_topic('orders')", *make_again)
        b.start(publish("orders", "b"))
        assert b.waits_for(a)
        a.run("commit")
        assert b.outcome() == "QL001"  # also when there is another topic of that name by now
        assert reader.value("select count(*) from queue.message") == 0
        if not make_again:
            a.run("select queue.create_topic('orders')")
    assert b.value(publish("orders", "b")) == 1


def a_late_publisher_is_not_misled_by_what_is_left(three: Sessions) -> None:
    a, b, _ = three
    large = "select json_agg(n) from generate_series(1, 100001) n"  # one more than a delete takes
    a.run(f"select queue.publish_batch('orders', ({large}))")
    a.run("begin", "select queue.delete_topic('orders')")
    b.start(publish("orders", "b"))
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() == "QL001"


def test_a_late_publisher_finds_no_large_topic(three: Sessions) -> None:
    a_late_publisher_is_not_misled_by_what_is_left(three)
    assert three[2].value("select count(*) from queue.message") == 1


def test_control_a_head_without_a_topic_is_caught(three: Sessions) -> None:
    topic = "from queue.topic t\n    left join"
    plant(
        three[0],
        "queue.publish_batch",
        (
            topic,
            topic.replace(
                "queue.topic", "(select v_topic_id as topic_id, p_topic as name, 1 as floor)"
            ),
        ),
    )
    with pytest.raises(AssertionError):
        a_late_publisher_is_not_misled_by_what_is_left(three)


def test_delete_waits_for_a_publisher_and_takes_its_message(three: Sessions) -> None:
    a, b, reader = three
    a.run("begin", publish("orders", "a"))
    b.start("select queue.delete_topic('orders')")
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() == ""
    assert reader.value("select count(*) from queue.message") == 0


def test_one_of_two_makers_of_a_topic_is_told_that_it_exists(three: Sessions) -> None:
    a, b, reader = three
    for end, outcome in (("commit", "QL003"), ("rollback", "new")):
        a.run("begin", f"select queue.create_topic('{end}')")
        b.start(f"select coalesce(description, 'new') from queue.create_topic('{end}')")
        assert b.waits_for(a)
        a.run(end)
        assert b.outcome() == outcome
        assert reader.value("select count(*) from queue.topic where name = %s", end) == 1


def test_a_topic_that_is_gone_from_an_old_snapshot_keeps_nothing(three: Sessions) -> None:
    a, b, reader = three
    a.run("begin isolation level repeatable read", "select count(*) from queue.topic")
    b.run("select queue.delete_topic('orders')")
    a.run(
        publish("orders", "a"), "select queue.subscribe('orders', 'billing', 'earliest')", "commit"
    )
    assert reader.value("select queue.tidy()") == 3  # the message, the subscriber and its position
    assert reader.value("select queue.tidy()") == 0
    assert b.value("select count(*) from queue.subscriber") == 0
