"""What may be published: dates, ids, numbers of numpy; and what `default` is asked about."""

import enum
import json
import subprocess
import sys
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qlib import InvalidRequest, QPublisher
from qlib.values import encoder, to_json
from tests.qlib.hostile import stored

NAN = float("nan")
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=timezone(timedelta(hours=2)))
Point = namedtuple("Point", "x y")


class Color(enum.Enum):
    RED = "red"
    AT = date(2026, 1, 2)


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    YES = "yes"


class Mood(str, enum.Enum):  # noqa: UP042 (as people wrote it before StrEnum)
    GOOD = "good"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Dish:
    name: str
    since: date
    parts: "list[Dish]" = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Slotted:
    n: int


KNOWN = [
    (MOMENT, "2026-01-02T03:04:05.000600+02:00"),
    (datetime(2026, 1, 2), "2026-01-02T00:00:00"),
    (date(2026, 1, 2), "2026-01-02"),
    (time(3, 4, 5), "03:04:05"),
    (ID, str(ID)),
    (Color.RED, "red"),
    (Color.AT, "2026-01-02"),
    (Number.ONE, 1),
    (Word.YES, "yes"),
    (Mood.GOOD, "good"),
    (Right.READ | Right.WRITE, 3),
    (
        Dish("soup", date(2026, 1, 2), [Dish("salt", date(2025, 1, 1))]),
        {
            "name": "soup",
            "since": "2026-01-02",
            "parts": [{"name": "salt", "since": "2025-01-01", "parts": []}],
        },
    ),
    (Slotted(1), {"n": 1}),
    (np.int64(2**62), 2**62),
    (np.uint8(7), 7),
    (np.float64(0.5), 0.5),
    (np.float32(0.5), 0.5),
    (np.longdouble(0.5), 0.5),
    (np.bool_(True), True),
    (np.str_("é"), "é"),
    (np.datetime64("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05.123456789"),
    (np.datetime64("2026-01-02"), "2026-01-02"),
    (pd.Timestamp("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05+00:00"),
    (Point(1, ID), [1, str(ID)]),
    (OrderedDict(a=ID), {"a": str(ID)}),
    ([{"a": (np.int64(1), {"b": MOMENT})}], [{"a": [1, {"b": MOMENT.isoformat()}]}]),
    ({1: "a", False: "b", None: "c", 0.5: "d"}, {"1": "a", "false": "b", "null": "c", "0.5": "d"}),
    ({Word.YES: 1, np.str_("no"): 2}, {"yes": 1, "no": 2}),
]

REFUSED = [
    Decimal("0.1"),
    Fraction(1, 2),
    b"bytes",
    bytearray(b"bytes"),
    memoryview(b"bytes"),
    np.bytes_(b"x"),
    1j,
    np.complex128(1j),
    {1, 2},
    frozenset(),
    timedelta(1),
    np.timedelta64(1, "s"),
    pd.Timedelta(1, "s"),
    Path("x"),
    range(3),
    object(),
    Dish,
    Color,
    int,
    NAN,
    float("inf"),
    -float("inf"),
    np.float64(NAN),
    np.float32("inf"),
    pd.NaT,
    pd.NA,
    np.datetime64("NaT"),
    np.array([1]),
    np.array(1),
    pd.Series([1]),
    pd.DataFrame({"a": [1]}),
    {ID: 1},
    {MOMENT: 1},
    {(1, 2): 3},
    {np.int64(1): 1},
    {b"x": 1},
    {NAN: 1},
]


def ids(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize(("value", "meant"), KNOWN, ids=ids)
def test_what_people_expect(value: Any, meant: Any) -> None:
    assert json.loads(to_json(value, "it")) == meant
    assert json.loads(to_json([{"in": value}], "it")) == [{"in": meant}]
    assert encoder(refusing)(value, "it") == to_json(value, "it"), "it may leave all to us"


@pytest.mark.parametrize("value", REFUSED, ids=ids)
def test_what_has_no_one_meaning_is_refused(value: Any) -> None:
    for it in (value, [value], {"in": {"in": [value]}}, Dish("x", value)):
        for encode in (encoder(), encoder(refusing)):
            with pytest.raises(InvalidRequest, match=r"payloads\[3\] is not JSON: "):
                encode(it, "payloads[3]")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Decimal(1), r"it holds a Decimal; convert it, or say how: QPublisher\(default=…\)"),
        (NAN, r"it holds NaN or Infinity; QPublisher\(default=…\) may say"),
        (np.array([1]), r"it holds a ndarray: its \.tolist\(\) is JSON"),
        (pd.DataFrame(), r"a DataFrame is many messages: publish_many\(topic, df\.to_dict\("),
        (pd.NaT, "it holds a NaTType; convert it"),
    ],
)
def test_a_refusal_says_what_to_do(value: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        encoder()([value], "it")


def refusing(value: Any) -> Any:
    raise TypeError(f"no {type(value).__name__}")


def money(value: Any) -> Any:
    """Make of what is left over what a person would write by hand."""
    if isinstance(value, Decimal):
        return {"exact": str(value)}
    if isinstance(value, float):
        return None
    if isinstance(value, bytes):
        return Decimal(len(value))
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"no {type(value).__name__}")


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (Decimal("0.10"), {"exact": "0.10"}),
        (b"xy", {"exact": "2"}),
        (datetime(2026, 1, 1, tzinfo=UTC), 1767225600.0),
        (date(2026, 1, 1), "2026-01-01"),
        (NAN, None),
        ([1.5, float("inf"), {"a": (NAN, Decimal(1))}], [1.5, None, {"a": [None, {"exact": "1"}]}]),
        (np.float32("nan"), None),
        (Dish("soup", NAN), {"name": "soup", "since": None, "parts": []}),
        ({1: NAN, "b": Number.ONE}, {"1": None, "b": 1}),
    ],
    ids=ids,
)
def test_default_has_the_first_word(value: Any, meant: Any) -> None:
    assert json.loads(encoder(money)(value, "it")) == meant


def test_default_is_what_it_is_in_json() -> None:
    values = [MOMENT, ID, Decimal(1), {1, 2}, b"x", Color.RED, np.int64(1), Dish("a", date.min)]
    expected = json.dumps(values, default=str)
    assert json.loads(encoder(str)(values, "it")) == json.loads(expected)


@pytest.mark.parametrize(
    ("default", "value", "words"),
    [
        (refusing, Decimal(1), "no Decimal"),
        (refusing, [NAN], "no float"),
        (lambda value: value, [NAN], "NaN or Infinity"),
        (lambda value: value, {1}, "Circular|recursion"),
        (lambda value: [value], {1}, "Circular|recursion"),
    ],
)
def test_a_default_that_does_not_help(
    default: Callable[[Any], Any], value: Any, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        encoder(default)(value, "it")


def test_an_error_of_default_s_own_is_told_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        encoder(lambda value: 1 / 0)(Decimal(1), "it")


def test_what_json_knows_is_the_same_text_with_and_without() -> None:
    asked: list[object] = []
    value = {"a": [1, None, "é\u2028", 1.5, True, {"b": (2, "")}]}
    assert encoder(asked.append)(value, "it") == encoder()(value, "it") == to_json(value, "it")
    assert asked == [], "it costs nothing unless it is asked"


def test_numpy_is_not_imported_for_it() -> None:
    script = (
        "import qlib.values, sys; qlib.values.encoder()(1, 'it'); print('numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    assert done.stdout == "False\n"


def test_it_is_what_a_publisher_sends(publishing: Callable[..., Any]) -> None:
    state, publisher = publishing(stored(1), stored(2, 2))
    assert publisher.publish("orders", MOMENT, key=ID, headers={"at": date(2026, 1, 2)}) == 1
    publisher.publish_many("orders", [Number.ONE, {"id": ID}], headers=[None, {"n": np.int8(1)}])
    first, second = (seen.body for seen in state.seen)
    assert first["payloads"] == [MOMENT.isoformat()] and first["keys"] == [str(ID)]
    assert first["headers"] == [{"at": "2026-01-02"}]
    assert second["payloads"] == [1, {"id": str(ID)}] and second["headers"] == [None, {"n": 1}]


def test_a_publisher_s_default(publishing: Callable[..., Any]) -> None:
    state, plain = publishing(stored(1), stored(2, 3))
    with QPublisher(state.url, default=money) as publisher:
        publisher.publish("orders", Decimal(1))
        publisher.publish_many("orders", iter([NAN, b"x", 1]))
    assert [seen.body["payloads"] for seen in state.seen] == [
        [{"exact": "1"}],
        [None, {"exact": "1"}, 1],
    ]
    with pytest.raises(InvalidRequest, match="payloads is not JSON|payloads.0. is not JSON"):
        plain.publish("orders", Decimal(1))
    with pytest.raises(InvalidRequest, match="default must be a function"):
        QPublisher(state.url, default="str")


FRAME = pd.DataFrame({"id": [1, 2], "dish": ["soup", "fish"]})


class Polars:
    """What a table of another library looks like from outside."""

    columns, shape = ["id"], (2, 1)

    def __iter__(self):
        return iter(["id"])


@pytest.mark.parametrize("table", [FRAME, FRAME.iloc[:0], Polars()], ids=ids)
@pytest.mark.parametrize("column", ["payloads", "keys", "headers"])
def test_a_table_is_refused(publishing: Callable[..., Any], table: Any, column: str) -> None:
    state, publisher = publishing()
    columns = {"payloads": [1, 2]} | {column: table}
    words = rf'{column} is a table.*df\.to_dict\("records"\)'
    with pytest.raises(InvalidRequest, match=words):
        publisher.publish_many("orders", **columns)
    assert state.seen == []


@pytest.mark.parametrize(
    "one", ["text", b"x", bytearray(b"x"), memoryview(b"x"), {"a": 1}, 7, None]
)
def test_what_is_no_column_is_refused(publishing: Callable[..., Any], one: Any) -> None:
    state, publisher = publishing()
    with pytest.raises(InvalidRequest, match="payloads must be a list"):
        publisher.publish_many("orders", one)
    assert state.seen == []


def test_what_the_refusal_says_works(publishing: Callable[..., Any]) -> None:
    state, publisher = publishing(stored(1, 2), stored(3, 2), stored(5, 2))
    publisher.publish_many("orders", FRAME.to_dict("records"))
    publisher.publish_many("orders", FRAME["dish"], keys=FRAME["dish"])
    publisher.publish_many("orders", np.array([[1, 2], [3, 4]]).tolist())
    assert [seen.body["payloads"] for seen in state.seen] == [
        [{"id": 1, "dish": "soup"}, {"id": 2, "dish": "fish"}],
        ["soup", "fish"],
        [[1, 2], [3, 4]],
    ]
    with pytest.raises(InvalidRequest, match=r"payloads\[0\] is not JSON.*\.tolist\(\)"):
        publisher.publish_many("orders", np.array([[1, 2], [3, 4]]))
