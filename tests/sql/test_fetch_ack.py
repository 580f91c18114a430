"""Fetch, ack, browse and lags."""

import itertools
import json
import random
from collections.abc import Iterator

import pytest

from tests.sql.session import Session, plant, refused

FETCH = "select \"offset\", epoch from queue.fetch('orders', 'billing', %s, %s)"
ACK = "select * from queue.ack('orders', 'billing', %s, %s)"
BROWSE = "select \"offset\" from queue.browse('orders', %s, %s)"
WITHIN = "select \"offset\" from queue.fetch('orders', 'billing', 100, null, %s)"


@pytest.fixture
def billing(orders: Session) -> Iterator[Session]:
    """Five messages, and `billing`, who has read none of them."""
    orders.run(
        "select queue.publish_batch('orders', '[10,20,30,40,50]', array['a','b',null,'d','e'])",
        "select queue.subscribe('orders', 'billing', 'earliest')",
    )
    yield orders


def offsets(sql: Session, statement: str, *arguments: object) -> list[int]:
    return [offset for offset, *_ in sql.rows(statement, *arguments)]


def history(sql: Session) -> list[tuple[object, ...]]:
    return sql.rows('select move, "offset", epoch, cause from queue.position order by move')


def test_fetch_returns_whole_messages(billing: Session) -> None:
    billing.rows("select queue.publish('orders', '6', 'k', %s)", '{"h": 1.50}')
    fetched = billing.rows(
        'select f."offset", f.key, f.headers::text, f.payload::text, f.epoch, f.published_at = m.published_at '
        "from queue.fetch('orders', 'billing') f join queue.messages m using (\"offset\") order by 1"
    )
    assert fetched[2:] == [
        (3, None, None, "30", 0, True),
        (4, "d", None, "40", 0, True),
        (5, "e", None, "50", 0, True),
        (6, "k", '{"h": 1.50}', "6", 0, True),
    ]


def test_p5_fetch_is_contiguous_and_moves_nothing(billing: Session) -> None:
    for limit, expected in (
        (100, [1, 2, 3, 4, 5]),
        (2, [1, 2]),
        (1, [1]),
        (0, []),
        (None, [1, 2, 3, 4, 5]),
    ):
        assert billing.rows(FETCH, limit, None) == [(offset, 0) for offset in expected]
    assert history(billing) == [(1, 0, 0, "start")]
    billing.rows(ACK, 2, 0)
    assert offsets(billing, FETCH, 2, None) == [3, 4]
    with refused("2201W", "LIMIT must not be negative"):
        billing.rows(FETCH, -1, None)


def test_reading_ahead_starts_after_an_offset(billing: Session) -> None:
    billing.rows(ACK, 2, 0)
    for after, expected in ((0, [1, 2]), (1, [2, 3]), (2, [3, 4]), (3, [4, 5]), (4, [5]), (5, [])):
        assert offsets(billing, FETCH, 2, after) == expected
    for after in (-1, 6, 2**63 - 1, -(2**63)):
        with refused("QL004", f"offset {after} is out of range: topic 'orders' takes 0 to 5 here",
                     {"floor": 1, "head": 5}):  # fmt: skip
            billing.rows(FETCH, 2, after)
    assert history(billing) == [(1, 0, 0, "start"), (2, 2, 0, "ack")]


def test_reading_ahead_in_an_epoch_that_is_over_is_refused(billing: Session) -> None:
    """Or the ack of what was read ahead would skip what a reset has brought back."""
    ahead = "select \"offset\" from queue.{}('orders', 'billing', 9, 3, p_epoch => %s)"
    fetch, text = ahead.format("fetch"), ahead.format("fetch_json").replace('"offset"', "epoch")
    assert billing.rows(fetch, 0) == [(4,), (5,)] and billing.rows(text, 0) == [(0,)]
    billing.run("select queue.reset('orders', 0)")
    for statement, epoch in itertools.product((fetch, text), (0, 2, -1)):
        with refused("QL005", "was reset, sought or made anew", {"position": 0, "epoch": 1}):
            billing.rows(statement, epoch)
    for epoch in (1, None):
        assert billing.rows(fetch, epoch) == [(4,), (5,)]


def test_p12_what_is_no_longer_kept_is_not_skipped_silently(billing: Session) -> None:
    billing.run('delete from queue.message where "offset" < 4', "update queue.topic set floor = 4")
    with refused(
        "QL004",
        "offset 0 is out of range: topic 'orders' takes 3 to 5 here",
        {"floor": 4, "head": 5},
    ):
        billing.rows(FETCH, 9, None)
    billing.run("select queue.seek('orders', 'billing', 3)")
    assert billing.rows(FETCH, 9, None) == [(4, 1), (5, 1)]


def ack_keeps_the_maximum(sql: Session) -> None:
    """P6: position = max(position, offset), and only a move that moves is kept."""
    for offset in (3, 1, 0, 3):
        assert sql.row(ACK, offset, 0) == (3, 0, 5, 2)
    assert sql.row(ACK, 5, 0) == (5, 0, 5, 0)
    assert history(sql) == [(1, 0, 0, "start"), (2, 3, 0, "ack"), (3, 5, 0, "ack")]


def test_p6_ack_keeps_the_maximum(billing: Session) -> None:
    ack_keeps_the_maximum(billing)


def test_control_an_ack_that_lets_the_last_writer_win_is_caught(billing: Session) -> None:
    kept = ('exit when p_offset <= v_reader."position";', "")
    told = ('greatest(p_offset, v_reader."position")', "p_offset")
    plant(billing, "queue.ack", kept, told)
    with pytest.raises(AssertionError):
        ack_keeps_the_maximum(billing)


def test_p6_a_wrong_ack_changes_nothing(billing: Session) -> None:
    billing.rows(ACK, 2, 0)
    for offset in (-1, 6, 2**63 - 1, -(2**63), None):
        with refused(
            "QL004", "is out of range: topic 'orders' takes 0 to 5 here", {"floor": 1, "head": 5}
        ):
            billing.rows(ACK, offset, 0)
    for epoch in (-1, 1, 2**63 - 1, None):
        with refused(
            "QL005", "the epoch is over: subscriber 'billing'", {"position": 2, "epoch": 0}
        ):
            billing.rows(ACK, 3, epoch)
    assert history(billing) == [(1, 0, 0, "start"), (2, 2, 0, "ack")]


def test_p8_an_ack_moves_nobody_else(billing: Session) -> None:
    billing.run(
        "select queue.create_topic('other')",
        "select queue.publish('other', '1')",
        "select queue.subscribe('orders', 'kitchen', 'earliest')",
        "select queue.subscribe('other', 'billing', 'earliest')",
    )
    billing.rows(ACK, 4, 0)
    positions = 'select topic, subscriber, "position" from queue.subscribers order by 1, 2'
    assert billing.rows(positions) == [
        ("orders", "billing", 4),
        ("orders", "kitchen", 0),
        ("other", "billing", 0),
    ]


def test_browse_reads_any_range(billing: Session) -> None:
    for offset, limit, expected in (
        (None, 100, [1, 2, 3, 4, 5]), (1, 2, [1, 2]), (4, 100, [4, 5]), (5, 1, [5]), (6, 100, []), (3, 0, []),
    ):  # fmt: skip
        assert offsets(billing, BROWSE, offset, limit) == expected
    for offset in (-1, 0, 7, 2**63 - 1, -(2**63)):
        with refused("QL004", f"offset {offset} is out of range: topic 'orders' takes 1 to 6 here",
                     {"floor": 1, "head": 5}):  # fmt: skip
            billing.rows(BROWSE, offset, 100)
    billing.run('delete from queue.message where "offset" < 3', "update queue.topic set floor = 3")
    assert offsets(billing, BROWSE, None, 100) == [3, 4, 5]
    with refused("QL004", "takes 3 to 6 here", {"floor": 3, "head": 5}):
        billing.rows(BROWSE, 2, 100)


def fill(sql: Session, texts: list[str]) -> None:
    sql.run("select queue.create_topic('orders')", "select queue.subscribe('orders', 'billing')")
    sql.rows("select queue.publish_batch('orders', %s)", f"[{','.join(texts)}]")


def incompressible(size: int) -> str:
    return json.dumps(random.Random(size).randbytes(size // 2).hex()[: size - 2])


def at_least_one_message(sql: Session) -> None:
    """A fetch is cut off by size, but a message that is too large alone still comes."""
    fill(sql, [incompressible(20_000), "1", '"x"', incompressible(50_000)])
    for most, expected in (
        (-1, [1]),
        (0, [1]),
        (1, [1]),
        (19_999, [1]),
        (30_000, [1, 2, 3]),
        (80_000, [1, 2, 3, 4]),
    ):
        assert offsets(sql, WITHIN, most) == expected


def test_a_fetch_is_cut_off_by_size_but_brings_one_message(sql: Session) -> None:
    at_least_one_message(sql)


def test_control_a_fetch_that_starves_on_a_large_message_is_caught(sql: Session) -> None:
    plant(
        sql,
        "queue.last_within",
        ('where m.bytes <= p_max_bytes or m."offset" = p_first', "where m.bytes <= p_max_bytes"),
    )
    with pytest.raises(AssertionError):
        at_least_one_message(sql)


ON_DISK = {"small": json.dumps("x" * 99_998), "large": incompressible(100_000)}


@pytest.mark.parametrize("text", ON_DISK.values(), ids=ON_DISK)
def test_the_size_is_that_of_the_text(sql: Session, text: str) -> None:
    fill(sql, [text] * 5)
    assert sql.value("select min(octet_length(payload::text)) from queue.messages") == 100_000
    for most, count in ((99_999, 1), (100_100, 1), (250_000, 2), (499_000, 4), (501_000, 5)):
        assert offsets(sql, WITHIN, most) == list(range(1, count + 1))
        assert len(sql.rows("select queue.browse('orders', 1, 100, %s)", most)) == count


def test_keys_and_headers_count_too(sql: Session) -> None:
    fill(sql, ["1"])
    wide = json.dumps({"h": "x" * 1000})
    sql.rows(
        "select queue.publish('orders', '2', %s), queue.publish('orders', '3', null, %s)",
        "k" * 1000,
        wide,
    )
    for most, expected in ((900, [1]), (1100, [1, 2]), (2100, [1, 2, 3])):
        assert offsets(sql, WITHIN, most) == expected


def mixed(seed: int) -> Iterator[tuple[str, str | None, str | None]]:
    """Payloads, keys and headers: small, large, packed on disk and not, with and without escapes."""
    chance = random.Random(seed)
    for number in range(40):
        size = chance.choice([3, 10, 100, 3000, 9000])
        payload = chance.choice(
            [str(number), json.dumps("x" * size), incompressible(size + number)]
        )
        key = chance.choice([None, None, "k" * size, '\n"\x01é' * 50])
        headers = chance.choice([None, None, f'{{ "h" : {json.dumps("y" * size)}}}'])
        yield payload, key, headers


def a_run_ends_where_the_bytes_do(sql: Session) -> None:
    """Whatever the messages are: as many as fit into the bytes, and not one more."""
    sql.run("select queue.create_topic('orders')", "select queue.subscribe('orders', 'billing')")
    sizes, chance = [], random.Random(1)
    for payload, key, headers in mixed(2):
        sql.rows("select queue.publish('orders', %s, %s, %s)", payload, key, headers)
        written = "" if key is None else json.dumps(key, ensure_ascii=False)
        sizes.append(len((payload + written + (headers or "")).encode()))
    for _ in range(300):
        after, limit = chance.randrange(40), chance.randrange(1, 12)
        sums = list(itertools.accumulate(sizes[after : after + limit]))
        most = chance.choice(sums) + chance.choice([-1, 0, 1])
        end = after + max(1, sum(total <= most for total in sums))
        run = "select \"offset\" from queue.fetch('orders', 'billing', %s, %s, %s)"
        assert offsets(sql, run, limit, after, most) == [*range(after + 1, end + 1)]


def test_a_run_ends_where_the_bytes_do(sql: Session) -> None:
    a_run_ends_where_the_bytes_do(sql)


@pytest.mark.parametrize("change", [
    ("coalesce(6 * octet_length(m.key) + 2, 0)", "0"),
    ("6 * octet_length", "octet_length"),
    ("coalesce(pg_column_size(m.headers), 0)", "0"),
    ("count(pg_column_compression(m.payload))", "0"),
    ("count(pg_column_compression(m.headers))", "0"),
    ("coalesce(octet_length(to_json(d.key)::text), 0)", "0"),
    ("pg_column_size(l.payload) - 4", "pg_column_size(l.payload)"),
    ("is not false", "is not null"),
])  # fmt: skip
def test_control_a_run_that_is_measured_wrong_is_caught(
    sql: Session, change: tuple[str, str]
) -> None:
    plant(sql, "queue.last_within", change)
    with pytest.raises(AssertionError):
        a_run_ends_where_the_bytes_do(sql)


def the_text_for_a_server_says_the_same(sql: Session) -> None:
    """fetch_json and browse_json return the rows of fetch and browse, with every text as it was published."""
    message = """select "offset", to_char(published_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                        key, headers::text, payload::text from queue.{} order by 1"""
    for rows, text in (("fetch('orders', 'billing', 2)", "fetch_json('orders', 'billing', 2)"),
                       ("fetch('orders', 'billing', 9, 1)", "fetch_json('orders', 'billing', 9, 1)"),
                       ("fetch('orders', 'billing', 9, 5)", "fetch_json('orders', 'billing', 9, 5)"),
                       ("fetch('orders', 'billing', 9, 0, 1)", "fetch_json('orders', 'billing', 9, 0, 1)"),
                       ("browse('orders', 2, 3)", "browse_json('orders', 2, 3)"),
                       ("browse('orders', 6)", "browse_json('orders', 6)")):  # fmt: skip
        expected = []
        for offset, time, key, headers, payload in sql.rows(message.format(rows)):
            members = [f'"offset":{offset}', f'"published_at":"{time}"', key and f'"key":{json.dumps(key)}',
                       headers and f'"headers":{headers}', f'"payload":{payload}']  # fmt: skip
            expected.append("{" + ",".join(filter(None, members)) + "}")
        assert sql.value(f"select messages from queue.{text}") == ",".join(expected)


@pytest.fixture
def odd(orders: Session) -> Session:
    """Five messages with keys, headers and payloads of all kinds, published at three times, and `billing`."""
    orders.rows(
        "select queue.publish_batch('orders', %s, %s, %s)",
        '[ null, "a\\n", {"b" : 1.50}]', ["k", None, '"\n'], '[null, { "h": 1.0 }, {}]',
    )  # fmt: skip
    orders.run("select queue.publish('orders', '[ ]')")
    orders.rows("select queue.publish('orders', '1', 'e', %s)", '{"h":"\\u00e9"}')
    orders.run("select queue.subscribe('orders', 'billing', 'earliest')")
    return orders


def test_the_text_for_a_server_says_the_same(odd: Session) -> None:
    the_text_for_a_server_says_the_same(odd)
    odd.run("select queue.seek('orders', 'billing', 2)")
    assert odd.row(
        "select \"position\", epoch, head from queue.fetch_json('orders', 'billing')"
    ) == (2, 1, 5)
    assert odd.row("select floor, head from queue.browse_json('orders')") == (1, 5)


@pytest.mark.parametrize("function, change", [
    ("queue.as_json", ("',\"headers\":' || p_message.headers::text", "null")),
    ("queue.fetch_json", ("else queue.rfc3339(m.published_at) end", "else v_text end")),
    ("queue.rfc3339", ("at time zone 'UTC'", "at time zone 'Asia/Tokyo'")),
])  # fmt: skip
def test_control_a_text_that_says_something_else_is_caught(
    odd: Session, function: str, change: tuple[str, str]
) -> None:
    plant(odd, function, change)
    with pytest.raises(AssertionError):
        the_text_for_a_server_says_the_same(odd)


def test_the_text_for_a_server_is_refused_as_the_rows_are(odd: Session) -> None:
    for call, code in (("'other', 'billing'", "QL001"), ("'orders', 'other'", "QL002"), ("null, null", "QL001"),
                       ("'orders', 'billing', 1, 6", "QL004"), ("'orders', 'billing', -1", "2201W")):  # fmt: skip
        for function in ("fetch", "fetch_json"):
            assert odd.attempt(f"select * from queue.{function}({call})") == code
    for call, code in (
        ("'other'", "QL001"),
        ("'orders', 7", "QL004"),
        ("'orders', 1, -1", "2201W"),
    ):
        for function in ("browse", "browse_json"):
            assert odd.attempt(f"select * from queue.{function}({call})") == code


def test_lags_come_furthest_behind_first(billing: Session) -> None:
    billing.run(
        "select queue.subscribe('orders', 'kitchen', 'latest'), queue.subscribe('orders', 'mailer', 'latest', 2)",
        "update queue.message set published_at = now() - interval '90 seconds' where \"offset\" = 3",
    )
    lags = "select topic, subscriber, lag, lag_seconds >= 90 from queue.lags(%s)"
    expected = [
        ("orders", "billing", 5, False),
        ("orders", "mailer", 3, True),
        ("orders", "kitchen", 0, False),
    ]
    assert billing.rows(lags, 10) == expected
    assert billing.rows(lags, 1) == expected[:1]
    assert billing.value("select lag_seconds from queue.lags() where subscriber = 'kitchen'") == 0
