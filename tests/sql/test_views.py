"""The views that people look at."""

from decimal import Decimal

import pytest

from tests.sql.session import Session

COLUMNS = {
    "topics": ["topic", "description", "created_at", "floor", "head", "subscribers", "topic_id"],
    "messages": ["topic", "offset", "published_at", "key", "headers", "payload"],
    "subscribers": ["topic", "subscriber", "position", "epoch", "head", "lag", "lag_seconds", "created_at",
                    "topic_id", "subscriber_id", "move", "floor"],
    "holds": ["topic", "subscriber", "kind", "lease", "worker", "offsets", "attempt", "held_at", "due_at",
              "topic_id", "subscriber_id"],
    "leases": ["topic", "subscriber", "lease", "worker", "offsets", "attempt", "leased_at", "expires_at",
               "topic_id", "subscriber_id"],
    "dead_letters": ["topic", "subscriber", "offset", "published_at", "key", "headers", "payload", "attempts", "reason",
                     "error", "worker", "died_at", "topic_id", "subscriber_id"],
}  # fmt: skip


@pytest.fixture
def cast(orders: Session) -> Session:
    orders.run(
        "select queue.create_topic('empty')",
        "select queue.publish_batch('orders', '[1,2,3]', array['a',null,'c'], '[null,{\"h\":1},null]')",
        "select queue.subscribe('orders', 'billing', 'earliest'), queue.subscribe('orders', 'kitchen')",
        "select queue.subscribe('empty', 'billing')",
        "select queue.ack('orders', 'billing', 1, 0)",
        "select queue.seek('orders', 'billing', 0)",
        "select queue.ack('orders', 'billing', 2, 1)",
    )
    return orders


def test_the_views_have_these_columns(sql: Session) -> None:
    listed = sql.rows(
        "select c.table_name, array_agg(c.column_name::text order by c.ordinal_position) "
        "from information_schema.columns c join information_schema.views v using (table_schema, table_name) "
        "where table_schema = 'queue' group by 1"
    )
    assert dict(listed) == COLUMNS


def test_topics(cast: Session) -> None:
    topics = "select topic, description, floor, head, subscribers from queue.topics order by topic"
    assert cast.rows(topics) == [
        ("empty", None, 1, 0, 1),
        ("orders", "every order placed", 1, 3, 2),
    ]


def test_the_head_stays_when_everything_is_removed(cast: Session) -> None:
    cast.run("update queue.topic set floor = 4 where name = 'orders'",
             "delete from queue.message where \"offset\" < 4")  # fmt: skip
    assert cast.row("select floor, head from queue.topics where topic = 'orders'") == (4, 3)
    assert cast.value("select queue.publish('orders', '4')") == 4


def test_messages(cast: Session) -> None:
    messages = 'select topic, "offset", key, headers::text, payload::text from queue.messages order by 1, 2'
    assert cast.rows(messages) == [
        ("orders", 1, "a", None, "1"),
        ("orders", 2, None, '{"h":1}', "2"),
        ("orders", 3, "c", None, "3"),
    ]


def test_subscribers(cast: Session) -> None:
    subscribers = (
        'select topic, subscriber, "position", epoch, head, lag, move, floor '
        "from queue.subscribers order by 1, 2"
    )
    assert cast.rows(subscribers) == [
        ("empty", "billing", 0, 0, 0, 0, 1, 1),
        ("orders", "billing", 2, 1, 3, 1, 4, 1),
        ("orders", "kitchen", 3, 0, 3, 0, 1, 1),
    ]


def test_lag_seconds_is_how_long_the_next_message_has_waited(cast: Session) -> None:
    cast.run(
        "begin",  # so that now() stays, and the lag can be bounded from both sides
        "update queue.message set published_at = now() - \"offset\" * interval '100 seconds'",
    )
    lags = "select subscriber, lag_seconds from queue.subscribers where topic = 'orders' order by 1"
    (billing, waited), kitchen = cast.rows(lags)
    since_begin = cast.value("select extract(epoch from clock_timestamp() - now())")
    assert (billing, kitchen) == ("billing", ("kitchen", Decimal(0)))
    assert 300 <= waited <= 300 + since_begin


def test_the_history_of_a_position_is_kept(cast: Session) -> None:
    history = """select p.move, p."offset", p.epoch, p.cause from queue.position p
                 join queue.subscribers s using (subscriber_id)
                 where s.topic = 'orders' and s.subscriber = 'billing' order by p.move"""
    assert cast.rows(history) == [
        (1, 0, 0, "start"),
        (2, 1, 0, "ack"),
        (3, 0, 1, "seek"),
        (4, 2, 1, "ack"),
    ]
    assert cast.value(
        "select bool_and(moved_at between now() - interval '1 min' and now()) from queue.position"
    )


def test_the_head_and_the_position_are_probes_of_an_index(cast: Session) -> None:
    """However long the log and the history: no view reads them through."""
    cast.run(
        'insert into queue.message (topic_id, "offset", published_at, payload) '
        "select topic_id, n, now(), '0' from queue.topic, generate_series(4, 5000) n where name = 'orders'",
        "analyze queue.message",
    )
    for query in ("select head from queue.topics where topic = 'orders'",
                  "select \"position\", lag from queue.subscribers where topic = 'orders'"):  # fmt: skip
        plan = "\n".join(line for (line,) in cast.rows(f"explain (costs off) {query}"))
        assert "Index Only Scan Backward using message_pkey" in plan
        assert "Seq Scan on message" not in plan


def only_what_is_asked_for_is_computed(sql: Session) -> None:
    """Every fetch and ack reads its position through the view: it must not pay for the lag in seconds."""
    (billing,) = sql.rows("explain (verbose, costs off, format json) "
                          "select \"position\" from queue.subscribers where subscriber = 'billing'")  # fmt: skip
    plan = str(billing)
    assert "message" not in plan
    assert "position_pkey" in plan


def test_a_column_that_is_not_asked_for_costs_nothing(cast: Session) -> None:
    only_what_is_asked_for_is_computed(cast)


def test_control_a_view_that_computes_all_its_columns_is_caught(cast: Session) -> None:
    view = cast.value("select pg_get_viewdef('queue.subscribers'::regclass)")
    assert "statement_timestamp()" in view
    volatile = view.replace("statement_timestamp()", "clock_timestamp()")
    cast.run(f"create or replace view queue.subscribers as {volatile}")
    with pytest.raises(AssertionError):
        only_what_is_asked_for_is_computed(cast)


def test_a_lag_is_never_negative(cast: Session) -> None:
    cast.run("update queue.message set published_at = now() + interval '1 hour'")
    lags = "select distinct lag_seconds from queue.subscribers"
    assert cast.rows(lags) == [(Decimal(0),)]
