"""What no reader could hold does not enter by SQL either; the server's door and the functions refuse the same."""

from collections.abc import Iterator

import pytest

from server.http import decoding
from server.http.errors import Problem
from tests.sql.session import Session, plant, refused

ONE = "select queue.publish('orders', %s, %s, %s)"
MANY = "select last_offset from queue.publish_batch('orders', %s, %s, %s)"
MIB = 1024 * 1024
ONES = "1" * 4301
NUMBERS = [
    "1e308", "1.7976931348623157e308", "1.797693134862315808e308", "1.8e308", "1e309", "1e400", "1E+400",
    "-1e400", "1e0400", "0e400", "0.0e99999", "1e-400", "1e-20000", "1e-99999999999999999",
    "1e99999999999999999999", "0.0001e311", "0.0001e313", ONES[:309], ONES[:310] + ".5", ONES[:4299], ONES[:4300],
    ONES, "-" + ONES[:4299], "-" + ONES[:4300], "0." + ONES, "0." + "0" * 400 + "1e700", "0." + "0" * 400 + "1e710",
    ONES[:300] + "e-700", ONES[:300] + "e-99999999999", "1" + "0" * 250 + "e99",
    "1" + "0" * 320 + "e-50", "1" + "0" * 320 + "e-5", "0." + "0" * 20_000 + "1",
    "0e2147483647", "-0E02147483648", "0.0E+99999999999999999", "1e200", "12345e305",
]  # fmt: skip
WHERE = ["%s", "[%s]", '{"a": %s}', '{"ae":[1,{"b":\n%s}]}', '["x\\"%s", 1]', '"[1, %s"']
DEEP = [
    "[{0}]",
    '{{"a":{0}}}',
    '[1e-20000, [{{"a":1.5}}], "]", {0}, 2]',
    '{{"\\u001e-5":{0}, "}}":[]}}',
    "[[], {{}}, {0}]",
    '{{"a":{0}, "a":1}}',
    '[{0}, "\\u005b[\\"]"]',
    "[0e2147483647, {0}, 1.5E-7, true, null, false]",
]


def nested(depth: int, level: str) -> str:
    text = "[]"
    for _ in range(depth - 1):
        text = level.format(text)
    return text


TEXTS = [where % number for number in NUMBERS for where in WHERE]
TEXTS += [nested(depth, level) for depth in (20, 64, 65, 300) for level in DEEP]
# the depth is a member's that a later one of its name replaces, and as many brackets stand in a text
TEXTS += ['{{"a":{},"a":"{}"}}'.format(nested(70, "[{0}]"), "\\u005b" * 70)]
TEXTS += [f'"{"x" * (size - 2)}"' for size in (MIB, MIB + 1)]
TEXTS += [f'"{"é" * (size // 2 - 1)}"' for size in (MIB, MIB + 2)]


def door_takes(payload: str, key: str | None = None, headers: str | None = None) -> bool:
    """Whether the server's door lets a message in."""
    texts = [payload.encode()], [key], [headers.encode()] if headers else None
    try:
        decoding.check_messages(*texts)
        decoding.array(texts[0])
        decoding.array(texts[2] or [])
    except Problem:
        return False
    return True


def both_refuse_the_same(sql: Session) -> None:
    for text in TEXTS:
        as_headers = f'{{"h":{text}}}'
        for message in ((text, None, None), ("1", "k", as_headers)):
            outcome = sql.attempt(ONE, *message)
            expected = int if door_takes(*message) else str
            assert isinstance(outcome, expected), (text[:60], outcome)
            assert outcome == "QL008" or expected is int


def test_both_doors_refuse_the_same(orders: Session) -> None:
    both_refuse_the_same(orders)
    taken = sum(door_takes(text) for text in TEXTS)
    assert min(taken, len(TEXTS) - taken) > 40


@pytest.mark.parametrize(("function", "change"), [
    ("queue.is_small", ("<= 128", "<= 400")),
    ("queue.is_small", ("<= 64", "<= 65")),
    ("queue.is_small", ("<= 300000", "<= 3000000")),
    ("queue.check_message", ("> 1048576", "> 1048575")),
    ("queue.check_message", ("> 1048576", "> 1048577")),
    ("queue.check_message", ("array[p_payload, p_headers]", "array[p_payload]")),
    ("queue.check_message", ('"(?:[^"\\\\]|\\\\.)*"', '"[^"]*"')),
    ("queue.is_nested_too_deep", ("{64}", "{63}")),
    ("queue.is_nested_too_deep", ("{64}", "{65}")),
    ("queue.is_nested_too_deep", ("1..64", "1..63")),
    ("queue.is_nested_too_deep", ("1..64", "1..65")),
    ("queue.is_nested_too_deep", ("if queue.open_brackets(v_jsonb::text) = queue.open_brackets(v_text)", "if true")),
    ("queue.is_nested_too_deep", ("if strpos(v_text, '\\') = 0", "if true")),
    ("queue.is_nested_too_deep", (" or numeric_value_out_of_range", "")),
    ("queue.is_too_large_a_number", ("4300", "4299")),
    ("queue.is_too_large_a_number", ("4300", "4301")),
    ("queue.is_too_large_a_number", ("when '-' then -1", "when '-' then 1")),
    ("queue.is_too_large_a_number", ("v_parts[3] <> '-'", "true")),
    ("queue.may_hold_a_large_number", ("[0-9]{100}|", "")),
    ("queue.may_hold_a_large_number", ("[eE][+]?", "[e]")),
])  # fmt: skip
def test_control_a_limit_that_is_another_is_caught(
    orders: Session, function: str, change: tuple[str, str]
) -> None:
    plant(orders, function, change)
    with pytest.raises(AssertionError):
        both_refuse_the_same(orders)


def large_batches() -> Iterator[tuple[list[str], str]]:
    """Batches in which one message of many is too large, with what is said of it."""
    small = ['{"id": 1, "data": "some text here"}'] * 600
    yield [*small, nested(65, '[1, {0}, "x"]')], "message 601 is nested deeper than 64"
    yield [*small, f"[{ONES}]"], "message 601: no reader could hold the number 11111111111111111111"
    yield [nested(2000, '{{"a":{0}}}'), *small], "message 1 is nested deeper than 64"
    yield (
        [*small, f'"{"x" * MIB}"', *small],
        "bytes; a message has at most 1048576",
    )


def a_large_batch_is_refused_as_a_whole(sql: Session) -> None:
    for texts, message in large_batches():
        for keys in (None, ["k"] * len(texts)):
            with refused("QL008", message):
                sql.rows(MANY, f"[{','.join(texts)}]", keys, None)
    assert sql.value("select count(*) from queue.message") == 0
    assert sql.value(MANY, f"[{','.join(texts[:600] * 17)}]", None, None) == 10_200


def test_a_large_batch_is_refused_as_a_whole(orders: Session) -> None:
    a_large_batch_is_refused_as_a_whole(orders)


def test_control_a_large_batch_that_is_not_looked_at_is_caught(orders: Session) -> None:
    plant(orders, "queue.publish_batch", ("where queue.is_small(b.payload) or", "where true or"))
    with pytest.raises(pytest.fail.Exception):
        a_large_batch_is_refused_as_a_whole(orders)


def test_key_and_headers_count(orders: Session) -> None:
    third = MIB // 3
    message = f'"{"x" * (third - 2)}"', "k" * third, '{"h":"%s"}' % ("y" * (third - 8))
    assert orders.attempt(ONE, message[0], message[1] + "k", message[2]) == 1
    for place, more in enumerate(
        (f'"{"x" * third}"', "k" * (third + 2), '{"h":"%s"}' % ("y" * third))
    ):
        parts = [*message[:place], more, *message[place + 1 :]]
        assert not door_takes(*parts)
        with refused("QL008", "bytes; a message has at most 1048576"):
            orders.rows(ONE, *parts)
    assert orders.attempt(ONE, "1", "k" * (MIB - 1), None) == 2
    assert orders.attempt(ONE, "1", "k" * MIB, None) == "QL008"


def test_what_looks_like_a_number_in_a_text_is_none(orders: Session) -> None:
    texts = [
        '"1e400"',
        '{"1e400": ": 1e400 \\", 1e400"}',
        f'"{ONES}"',
        f'["\\\\", "[{ONES}, 1e999"]',
    ]
    for n, text in enumerate(texts, 1):
        assert orders.attempt(ONE, text, None, None) == n


def test_a_description_has_a_limit(sql: Session) -> None:
    sql.rows("select queue.create_topic('long', %s)", "é" * 1000)
    with refused("QL009", "a description has at most 1000 characters"):
        sql.rows("select queue.create_topic('longer', %s)", "é" * 1001)
