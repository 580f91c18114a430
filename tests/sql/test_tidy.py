"""Housekeeping: what goes, what stays, in which chunks."""

from collections.abc import Callable

import psycopg2.errors
import pytest

from tests.sql.session import Session, plant, refused

MOVES = """
select s.name, count(*), min(p.move), max(p.move)
from queue.position p join queue.subscriber s using (subscriber_id) group by 1 order by 1
"""
NUMBERED = "select * from queue.publish_batch('orders', '[1]', null, null, 'shop', %s)"


@pytest.fixture
def movers(orders: Session) -> Session:
    """Subscribers that moved 1,499, 1,500, 1,501 and 4,000 times."""
    orders.run("select queue.publish('orders', '1')")
    for moves in (1499, 1500, 1501, 4000):
        orders.rows("select queue.subscribe('orders', %s)", f"s{moves}")
        orders.rows(
            "insert into queue.position (subscriber_id, move, \"offset\", epoch, cause) "
            "select subscriber_id, n, 1, n, 'seek' from queue.subscriber, generate_series(2, %s) n where name = %s",
            moves, f"s{moves}",
        )  # fmt: skip
    return orders


def newest_thousand_moves_stay(sql: Session) -> None:
    before = sql.rows("select * from queue.subscribers order by subscriber")
    assert sql.value("select queue.tidy()") == 501 + 3000
    assert sql.rows(MOVES) == [
        ("s1499", 1499, 1, 1499),
        ("s1500", 1500, 1, 1500),
        ("s1501", 1000, 502, 1501),
        ("s4000", 1000, 3001, 4000),
    ]
    assert sql.rows("select * from queue.subscribers order by subscriber") == before
    assert sql.value("select queue.tidy()") == 0


def test_the_newest_thousand_moves_stay(movers: Session) -> None:
    newest_thousand_moves_stay(movers)


def test_control_a_tidy_that_removes_too_much_is_caught(movers: Session) -> None:
    plant(movers, "queue.tidy_moves", ("newest.move - 1000", "newest.move - 999"))
    with pytest.raises(AssertionError):
        newest_thousand_moves_stay(movers)


def test_a_subscriber_goes_on_after_its_history_was_trimmed(movers: Session) -> None:
    movers.run("select queue.tidy()")
    assert movers.row("select * from queue.ack('orders', 's4000', 1, 4000)") == (1, 4000, 1, 0)
    assert movers.row("select * from queue.reset('orders', 0)") == (0, 4)
    assert movers.row("select move, epoch from queue.get_subscriber('orders', 's4000')") == (
        4001,
        4001,
    )


def test_a_chunk_has_a_limit(movers: Session) -> None:
    removed = [movers.value("select queue.tidy(1000)") for _ in range(5)]
    assert all(count <= 1000 for count in removed)
    assert removed[-1] == 0
    kept = movers.rows(MOVES)
    assert [last for *_, last in kept] == [1499, 1500, 1501, 4000]
    assert all(1000 <= count <= 1500 for _, count, *_ in kept)
    assert movers.value("select queue.tidy(0)") == 0
    with refused("2201W"):
        movers.run("select queue.tidy(-1)")


def test_rows_of_what_was_deleted_go(orders: Session) -> None:
    orders.run(
        "select queue.publish_batch('orders', '[1,2,3]')",
        "select queue.subscribe('orders', 'billing', 'earliest')",
        'insert into queue.message (topic_id, "offset", published_at, payload) '
        "select t, n, now(), '0' from unnest(array[900, 901]) t, generate_series(1, 5) n",
        'insert into queue.position (subscriber_id, move, "offset", epoch, cause) '
        "select s, n, 0, 0, 'ack' from unnest(array[900, 901, 902]) s, generate_series(1, 5) n",
        "insert into queue.subscriber (topic_id, name) values (900, 'late')",
    )
    orders.run(
        "select queue.publish('orders', '1', null, null, 'p', 1)",
        "insert into queue.publication select 901, 'p', n, n, n, now() from generate_series(1, 6) n",
    )
    chunks = [orders.value("select queue.tidy(4)") for _ in range(6)]
    assert sum(chunks) == 1 + 10 + 15 + 6 and max(chunks) <= 4 * 4 and chunks[-1] == 0
    assert orders.row('select count(*), min(topic_id), max("offset") from queue.message') == (
        4,
        1,
        4,
    )
    assert orders.value("select count(*) from queue.publication") == 1
    assert orders.rows("select name from queue.subscriber") == [("billing",)]
    assert orders.row("select count(*), min(subscriber_id) from queue.position") == (1, 1)


def test_a_numbered_publish_is_forgotten_after_a_day(orders: Session) -> None:
    for number in (1, 2):
        orders.rows(NUMBERED, number)
    orders.run(
        "update queue.publication set published_at = now() - interval '1 day 1 second' where sequence = 1",
        "update queue.publication set published_at = now() - interval '23 hours 59 minutes' where sequence = 2",
    )
    assert [orders.value("select queue.tidy()") for _ in range(2)] == [1, 0]
    assert orders.row(NUMBERED, 2) == (2, 2, True)
    assert orders.row(NUMBERED, 1) == (3, 3, False)  # too late: stored again


def young_publications_are_not_read(sql: Session) -> None:
    """However many there are: to find that none is old takes one look at an index."""
    sql.run(
        "insert into queue.publication select 1, 'shop', n, n, n, now() from generate_series(1, 5000) n",
        "analyze queue.publication",
        "begin",
    )
    scans = "select pg_stat_get_xact_numscans('queue.publication'::regclass)"
    before = sql.value(scans)  # of what was done before
    assert sql.value("select queue.tidy()") == 0
    assert sql.value(scans) == before
    sql.run("rollback")


def test_young_publications_are_not_read(orders: Session) -> None:
    young_publications_are_not_read(orders)


def test_control_a_tidy_that_reads_all_publications_is_caught(orders: Session) -> None:
    orders.run("drop index queue.publication_published_at")
    with pytest.raises(AssertionError):
        young_publications_are_not_read(orders)


def test_two_at_once(orders: Session, session: Callable[[], Session]) -> None:
    orders.run(
        'insert into queue.position (subscriber_id, move, "offset", epoch, cause) '
        "values (900, 1, 0, 0, 'ack')"
    )
    first, second = session(), session()
    first.run("begin")
    assert first.value("select queue.tidy()") == 1
    second.start("select queue.tidy()")
    assert second.settles() == "done"
    assert second.outcome() == 0
    first.run("rollback")
    assert second.value("select queue.tidy()") == 1


def test_nothing_to_do(orders: Session) -> None:
    orders.run("select queue.publish('orders', '1')", "select queue.subscribe('orders', 'billing')")
    assert orders.value("select queue.tidy()") == 0


def left(sql: Session) -> tuple[object, ...]:
    """Return how many rows there are of each kind."""
    return sql.row("select (select count(*) from queue.subscriber), (select count(*) from queue.position), "
                   "(select count(*) from queue.publication), (select count(*) from queue.message)")  # fmt: skip


def a_delete_takes_a_chunk(sql: Session) -> None:
    """The rest is out of reach at once, also of a topic or subscriber made anew, and goes bit by bit."""
    many = "select t.topic_id, 'p', n, n, n, now() from queue.topic t, generate_series(1, 25) n"
    sql.run(
        "select queue.publish_batch('orders', (select json_agg(n) from generate_series(1, 25) n))",
        f"insert into queue.publication {many}",
        "select queue.subscribe('orders', 's' || n, 'earliest') from generate_series(1, 25) n",
        "select queue.delete_topic('orders')",
    )
    assert left(sql) == (15, 15, 15, 15)
    sql.run("select queue.create_topic('orders')")
    assert sql.row("select floor, head, subscribers from queue.get_topic('orders')") == (1, 0, 0)
    assert sql.value("select count(*) from queue.subscribers") == 0
    assert sql.value("select queue.count_subscribers()") == 0
    assert sql.value("select queue.publish('orders', '1', null, null, 'p', 1)") == 1
    begun = "select (subscriber).\"position\", (subscriber).move, created from queue.subscribe('orders', 's1')"
    assert sql.row(begun) == (1, 1, True)
    chunks = [sql.value("select queue.tidy(7)") for _ in range(5)]
    assert chunks[-1] == 0 and max(chunks) <= 5 * 7
    assert left(sql) == (1, 1, 1, 1)
    sql.run("insert into queue.position (subscriber_id, move, \"offset\", epoch, cause) "
            "select subscriber_id, n, 0, 1, 'seek' from queue.subscriber, generate_series(2, 25) n",
            "select queue.unsubscribe('orders', 's1')")  # fmt: skip
    assert left(sql) == (0, 15, 1, 1)
    assert sql.row(begun) == (1, 1, True)
    assert [sql.value("select queue.tidy(10)") for _ in range(3)] == [10, 5, 0]
    assert left(sql) == (1, 1, 1, 1)


@pytest.fixture
def small_chunks(orders: Session) -> Session:
    """Deletes that take 10 rows of a kind at once, not 100,000."""
    for function in ("queue.delete_topic", "queue.unsubscribe"):
        plant(orders, function, ("100000", "10"))
    return orders


def test_a_delete_takes_a_chunk(small_chunks: Session) -> None:
    a_delete_takes_a_chunk(small_chunks)


@pytest.mark.parametrize(("function", "change"), [
    ("queue.delete_topic", ("10)", "1000)")),
    ("queue.unsubscribe", ("limit 10)", "limit 1000)")),
    ("queue.tidy_moves", ("s.subscriber_id is null or", "")),
    ("queue.count_subscribers", ("join queue.topic t using (topic_id)", "")),
    ("queue.next_topic_id", ("v_topic_id := nextval('queue.topic_topic_id_seq');", "return 1;")),
])  # fmt: skip
def test_control_a_delete_of_another_size_is_caught(
    small_chunks: Session, function: str, change: tuple[str, str]
) -> None:
    plant(small_chunks, function, change)
    with pytest.raises(AssertionError):
        a_delete_takes_a_chunk(small_chunks)


def looks(sql: Session) -> list[int]:
    """Return how often the primary keys of positions and messages were looked into."""
    count = "select pg_stat_get_xact_numscans('queue.{}_pkey'::regclass)"
    return [sql.value(count.format(name)) for name in ("position", "message")]


def a_call_looks_at_a_part(sql: Session) -> None:
    """A call reads no more with many subscribers and topics; the next one goes on where it ended."""
    sql.run(
        "insert into queue.topic (name) select 't' || n from generate_series(1, 300) n",
        'insert into queue.message (topic_id, "offset", published_at, payload) '
        "select topic_id, 1, now(), '0' from queue.topic where name like 't%'",
        "select queue.subscribe(name, 's') from queue.topic where name like 't%'",
        'insert into queue.position (subscriber_id, move, "offset", epoch, cause) '
        "select 1000, n, 0, 0, 'ack' from generate_series(1, 3) n",
        'insert into queue.message (topic_id, "offset", published_at, payload) '
        "select 1000, n, now(), '0' from generate_series(1, 3) n",
        "analyze",
    )
    seen = []
    for _ in range(100):
        sql.run("begin", "set local enable_seqscan = off")
        before = looks(sql)
        removed = sql.value("select queue.tidy(10)")
        assert max(now - then for now, then in zip(looks(sql), before, strict=True)) < 200
        sql.run("commit")
        seen.append(removed)
    assert left(sql) == (300, 300, 0, 300)
    assert seen[0] == 0 and seen[-1] == 0  # nothing in the first part, and nothing in the end
    found = [n for n, removed in enumerate(seen) if removed > 1]
    assert len(found) == 2 and all(all(seen[n : n + 6]) for n in found)  # on, once round


def test_a_call_looks_at_a_part(orders: Session) -> None:
    a_call_looks_at_a_part(orders)


@pytest.mark.parametrize(("function", "change"), [
    ("queue.tidy_moves", ("limit 5 * p_limit", "limit 500 * p_limit")),
    ("queue.tidy_topics", ("f.id > v_last limit p_limit", "f.id > v_last limit 50 * p_limit")),
    ("queue.went_on", ("coalesce(p_last, 0)", "0")),
    ("queue.went_on", ("then 2 else", "then 0 else")),
])  # fmt: skip
def test_control_a_round_that_is_another_is_caught(
    orders: Session, function: str, change: tuple[str, str]
) -> None:
    plant(orders, function, change)
    with pytest.raises(AssertionError):
        a_call_looks_at_a_part(orders)


def many_small_lives(sql: Session, end: str) -> None:
    """Make and end small topics and subscribers until Postgres keeps its plans, then large ones."""
    for rows in (*[1] * 8, 120_000):
        sql.run("select queue.create_topic('life'); select queue.subscribe('life', 's')")
        sql.rows(
            "select queue.publish_batch('life', "
            "(select json_agg(n) from generate_series(1, %s) n))",
            rows,
        )
        sql.rows(
            'insert into queue.position (subscriber_id, move, "offset", epoch, cause) '
            "select subscriber_id, n, 1, n, 'seek' "
            "from queue.subscriber, generate_series(2, %s) n where name = 's'",
            rows,
        )
        sql.run(f"set statement_timeout = '5s'; {end}; set statement_timeout = '30s'")
        sql.run("do $$ begin perform queue.delete_topic('life'); exception when others then end $$")
        while sql.value("select queue.tidy()"):
            pass


ENDS = ["select queue.delete_topic('life')", "select queue.unsubscribe('life', 's')"]


@pytest.mark.parametrize("end", ENDS)
def test_a_plan_of_small_lives_is_not_kept_for_a_large_one(orders: Session, end: str) -> None:
    many_small_lives(orders, end)
    assert left(orders)[0] == 0


def test_control_a_plan_that_is_kept_is_caught(orders: Session) -> None:
    plant(orders, "queue.clear", ("force_custom_plan", "auto"))
    with pytest.raises(psycopg2.errors.QueryCanceled):
        many_small_lives(orders, ENDS[0])
