"""Publish: offsets, text fidelity, keys and headers, what is refused, numbered publishes."""

import json
from collections.abc import Callable
from itertools import product

import pytest

from tests.sql.session import Session, plant, refused

BROWSE = 'select "offset", key, headers::text, payload::text from queue.browse(%s)'
NUMBERED = "select * from queue.publish_batch(%s, %s, %s::text[], %s, %s, %s)"

FAITHFUL = [
    "1.50", "1e2", "1E+2", "-0", "-0.0", "1.0", "0.1e-7", "123456789012345678901234567890.5000",
    "9" * 4300, '""', '"a"', "null", "true", "false", "[]", "{}", "[ 1 , 2 ]", '{ "b" : 1,\n\t"a":2 }',
    '{"a":1,"a":2}', '{"a":{"z":1,"y":[1.0,1.00]}}', r'"\u0041\u00e9"', r'"\ud83d\ude00"', '"é😀\u2028"',
    r'"\/ \b\f\n\r\t\\ \""', r'"\\u0000"', r'"\\ud800"', '"\x7f"', "[" * 64 + "]" * 64,
]  # fmt: skip

UNREADABLE = [
    r'"\u0000"', r'{"a":"\u0000"}', r'{"\u0000":1}', r'["a",["b\u0000c"]]', r'"\ud800"', r'"\udc00"',
    r'"\ud800\u0041"', r'"\ude00\ud83d"', r'"\\\u0000"', r'{"a":[{"b":"x\uDFFFy"}]}', r'"\ud83d😀"',
]  # fmt: skip

# Where a text, marked ?, may stand in a publish.
PLACES = [
    ("select queue.publish('orders', %s)", "?"),
    ("select queue.publish_batch('orders', %s)", "[1,?]"),
    ("select queue.publish('orders', '1', null, %s)", '{"h":?}'),
    ("select queue.publish_batch('orders', '[1,2]', null, %s)", '[null,{"h":?}]'),
]

MISFITS = [
    (None, None, None, "payloads must be a JSON array of at least one payload"),
    ("[]", None, None, "payloads must be a JSON array of at least one payload"),
    ("{}", None, None, "payloads must be a JSON array of at least one payload"),
    ("1", None, None, "payloads must be a JSON array of at least one payload"),
    ("null", None, None, "payloads must be a JSON array of at least one payload"),
    ("[]", [], "[]", "payloads must be a JSON array of at least one payload"),
    ("[1,2]", ["a"], None, "there are 2 payloads and 1 keys"),
    ("[1,2]", ["a", "b", "c"], None, "there are 2 payloads and 3 keys"),
    ("[1]", [], None, "there are 1 payloads and 0 keys"),
    ("[1,2]", None, "[null]", "headers must be a JSON array of 2, one for each payload"),
    ("[1]", None, "[{},{}]", "headers must be a JSON array of 1, one for each payload"),
    ("[1]", None, "{}", "headers must be a JSON array of 1, one for each payload"),
    ("[1]", None, "null", "headers must be a JSON array of 1, one for each payload"),
    ("[1]", None, "[[]]", "the headers of a message are a JSON object or null"),
    ("[1]", None, "[1]", "the headers of a message are a JSON object or null"),
    ("[1]", None, '["{}"]', "the headers of a message are a JSON object or null"),
]

NOT_JSON = ["", "{", "[1,]", "NaN", "Infinity", "01", "'a'", '"\x01"', "\\u0041", "1 2"]

# The same number as [1,2] with keys [a, null] and headers [null,{}], but not the same messages.
OTHERS = [
    ("[1,3]", ["a", None], "[null,{}]"), ("[1]", ["a"], "[null]"), ("[1,2,3]", None, None),
    ("[1,2.0]", ["a", None], "[null,{}]"), ("[1,2]", None, "[null,{}]"), ("[1,2]", ["a", "b"], "[null,{}]"),
    ("[1,2]", ["a", None], None), ("[1,2]", ["a", None], "[{},{}]"), ("[2,1]", ["a", None], "[null,{}]"),
]  # fmt: skip

HALF_NUMBERS = [("p", None), (None, 1), ("p", -1), ("p", -(2**63)), ("", 1), ("p" * 201, 1)]


def payloads(sql: Session, topic: str = "orders") -> list[str]:
    return [payload for *_, payload in sql.rows(BROWSE, topic)]


def test_offsets_are_1_2_3_and_a_batch_is_contiguous(orders: Session) -> None:
    assert orders.value("select queue.publish('orders', '\"a\"')") == 1
    assert orders.row("select * from queue.publish_batch('orders', '[2,3,4]')") == (2, 4, False)
    assert orders.value("select queue.publish('orders', '\"e\"')") == 5
    assert orders.rows(BROWSE, "orders") == [
        (1, None, None, '"a"'),
        (2, None, None, "2"),
        (3, None, None, "3"),
        (4, None, None, "4"),
        (5, None, None, '"e"'),
    ]


def test_a_batch_of_ten_thousand_keeps_its_order(orders: Session) -> None:
    batch = json.dumps(list(range(1, 10_001)))
    published = orders.row("select * from queue.publish_batch('orders', %s)", batch)
    assert published == (1, 10_000, False)
    agree = orders.row(
        'select count(*), count(*) filter (where payload::text = "offset"::text) from queue.messages'
    )
    assert agree == (10_000, 10_000)


def test_p3_the_text_of_a_payload_is_kept(orders: Session) -> None:
    for text in FAITHFUL:
        orders.rows("select queue.publish('orders', %s)", text)
    orders.rows("select queue.publish_batch('orders', %s)", "[ " + " ,\n".join(FAITHFUL) + "\t]")
    assert payloads(orders) == FAITHFUL * 2
    orders.run("select payload ->> 'x' from queue.messages")  # nothing that readers choke on


def test_headers_and_keys_are_kept_as_they_are(orders: Session) -> None:
    text = '{ "b":1.50,"b" : "\\u0041" }'
    orders.rows("select queue.publish('orders', '1', %s, %s)", "k\n'; é😀", text)
    orders.rows(
        "select queue.publish_batch('orders', '[2,3,4]', %s, %s)",
        ["", None, "k"],
        f"[null, {text} ,{{}}]",
    )
    assert orders.rows(BROWSE, "orders") == [
        (1, "k\n'; é😀", text, "1"),
        (2, "", None, "2"),
        (3, None, text, "3"),
        (4, "k", "{}", "4"),
    ]


def test_a_single_publish_is_inlined(orders: Session) -> None:
    plan = "explain (verbose, costs off) select queue.publish('orders', '1', 'k', '{}')"
    assert "queue.publish_batch('orders'" in str(orders.rows(plan))


def bounds_do_not_matter(orders: Session) -> None:
    orders.rows("select queue.publish_batch('orders', '[1,2]', '[5:6]={a,b}'::text[])")
    orders.rows("select queue.publish_batch('orders', '[3,4]', '{{c},{d}}'::text[])")
    assert [key for _, key, _, _ in orders.rows(BROWSE, "orders")] == ["a", "b", "c", "d"]


def test_keys_are_taken_in_turn_whatever_the_bounds_of_their_array(orders: Session) -> None:
    bounds_do_not_matter(orders)


def test_control_keys_taken_by_their_number_are_caught(orders: Session) -> None:
    plant(orders, "queue.publish_batch", ("array(select unnest(p_keys))", "p_keys"))
    with pytest.raises(AssertionError):
        bounds_do_not_matter(orders)


def test_sql_null_is_published_as_json_null(orders: Session) -> None:
    orders.run(
        "select queue.publish('orders', null)", "select queue.publish('orders', '2', null, 'null')"
    )
    assert orders.rows(BROWSE, "orders") == [(1, None, None, "null"), (2, None, None, "2")]


def unreadable_text_is_refused(orders: Session) -> None:
    for text, (statement, argument) in product(UNREADABLE, PLACES):
        with refused("QL008", "cannot hold \\u0000 or half a surrogate pair"):
            orders.rows(statement, argument.replace("?", text))
    assert payloads(orders) == []


def test_text_that_no_reader_could_take_apart_is_refused(orders: Session) -> None:
    unreadable_text_is_refused(orders)


@pytest.mark.parametrize("function, text", [
    ("queue.publish_batch", r"strpos(v_text, '\')"),
    ("queue.publish_batch", r"strpos(p_headers::text, '\')"),
    ("queue.check_escapes", r"strpos(p_json::text, '\u')"),
])  # fmt: skip
def test_control_text_that_is_looked_for_in_vain_is_caught(
    orders: Session, function: str, text: str
) -> None:
    plant(orders, function, (text, "0"))
    with pytest.raises(pytest.fail.Exception):
        unreadable_text_is_refused(orders)


def test_parts_that_do_not_fit_are_refused(orders: Session) -> None:
    for (batch, keys, headers, message), numbers in product(MISFITS, ((None, None), ("p", 1))):
        with refused("QL008", message):
            orders.rows(NUMBERED, "orders", batch, keys, headers, *numbers)
    assert payloads(orders) == []


def test_what_is_no_json_is_refused(orders: Session) -> None:
    for text, (statement, argument) in product(NOT_JSON, PLACES):
        with refused("22P02"):
            orders.rows(statement, argument.replace("?", text))
    assert payloads(orders) == []


def test_a_wrong_message_stores_nothing_of_its_batch(orders: Session) -> None:
    with refused("QL008"):
        orders.rows("select queue.publish_batch('orders', %s)", r'[1,2,"\u0000",4]')
    assert orders.value("select queue.publish('orders', '1')") == 1


def test_a_rollback_leaves_no_hole(orders: Session) -> None:
    orders.run("select queue.publish('orders', '1')", "begin")
    assert orders.row("select * from queue.publish_batch('orders', '[2,3]')") == (2, 3, False)
    orders.run("rollback")
    assert orders.value("select queue.publish('orders', '4')") == 2
    orders.run("begin", "savepoint s", "select queue.publish('orders', '5')", "rollback to s")
    assert orders.value("select queue.publish('orders', '6')") == 3
    orders.run("commit")
    assert payloads(orders) == ["1", "4", "6"]


def clock_set_back(sql: Session) -> None:
    """published_at never falls from one offset to the next, whatever the clock does."""
    sql.run(
        'insert into queue.message (topic_id, "offset", published_at, payload) '
        "select topic_id, 1, now() + interval '1 hour', '1' from queue.topic",
        "select queue.publish_batch('orders', '[2,3]')",
    )
    times = [time for (time,) in sql.rows("select published_at from queue.browse('orders')")]
    assert times[0] == times[1] == times[2]


def test_published_at_does_not_fall_when_the_clock_does(orders: Session) -> None:
    clock_set_back(orders)


def test_control_a_publish_that_trusts_the_clock_is_caught(orders: Session) -> None:
    plant(
        orders,
        "queue.publish_batch",
        ("greatest(clock_timestamp(), m.published_at)", "clock_timestamp()"),
    )
    with pytest.raises(AssertionError):
        clock_set_back(orders)


def test_a_numbered_publish_is_stored_once(orders: Session, session: Callable[[], Session]) -> None:
    again = ("orders", "[1, 2]", ["a", None], '[null, {"h":1}]', "shop", 0)
    assert orders.row(NUMBERED, *again) == (1, 2, False)
    assert orders.row(NUMBERED, *again) == (1, 2, True)
    orders.run("select queue.publish('orders', '3')")
    assert session().row(NUMBERED, *again) == (1, 2, True)  # from a new connection as well
    assert payloads(orders) == ["1", "2", "3"]
    single = "select queue.publish('orders', '4', 'k', '{}', 'shop', 9223372036854775807)"
    assert [orders.value(single) for _ in range(2)] == [4, 4]
    assert orders.row("select head from queue.topics") == (4,)


def test_the_same_number_with_other_messages_is_refused(orders: Session) -> None:
    orders.rows(NUMBERED, "orders", "[1,2]", ["a", None], "[null,{}]", "shop", 7)
    for other in OTHERS:
        with refused("QL006", "producer 'shop' has published other messages as number 7"):
            orders.rows(NUMBERED, "orders", *other, "shop", 7)
    assert payloads(orders) == ["1", "2"]


def test_numbers_count_for_one_producer_and_one_topic(orders: Session) -> None:
    orders.run("select queue.create_topic('other')")
    for topic, producer, offset in (("orders", "a", 1), ("orders", "b", 2), ("other", "a", 1)):
        assert orders.row(NUMBERED, topic, "[1]", None, None, producer, 1) == (
            offset,
            offset,
            False,
        )


def test_a_number_that_was_rolled_back_is_free(orders: Session) -> None:
    orders.run("begin", "select queue.publish('orders', '1', null, null, 'shop', 1)", "rollback")
    assert orders.row(NUMBERED, "orders", "[2]", None, None, "shop", 1) == (1, 1, False)


def test_half_a_number_is_refused(orders: Session) -> None:
    for numbers in HALF_NUMBERS:
        with refused("QL009", "a producer of 1 to 200 characters and a sequence of 0 or more"):
            orders.rows(NUMBERED, "orders", "[1]", None, None, *numbers)
    assert payloads(orders) == []
