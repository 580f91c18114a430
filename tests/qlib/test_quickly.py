"""Where msgspec writes and reads JSON in `json`'s place, it means the same: held beside it."""

import gc
import json
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlib import Batch, InvalidRequest, values
from tests.qlib.test_values import ID, KNOWN, MOMENT, NAN, REFUSED

INF = float("inf")


class Text(str):
    """A text of one's own."""


class Whole(int):
    """An integer that shows as something else."""

    def __repr__(self) -> str:
        return "nonsense"


class Bent(str, Enum):  # noqa: UP042 (whose text is not its value)
    ONE = "one"

    def __new__(cls, value: str) -> "Bent":
        member = str.__new__(cls, "text")
        member._value_ = value
        return member


class Backwards(dict[str, Any]):
    def items(self) -> Any:
        return list(super().items())[::-1]


class Anything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__


class Record(msgspec.Struct):
    n: Any


class Renamed(msgspec.Struct, rename={"n": "m"}, tag="kind"):
    n: Any


@dataclass
class Lax:
    n: Any

    def __eq__(self, other: object) -> bool:
        return True


class Held:
    """What has attributes, and lives on."""


HELD: deque[Held] = deque(maxlen=1000)


def attributes(named: dict[str, Any]) -> dict[str, Any]:
    """Return what `vars` does for an object with these; since Python 3.13 it may be a view of it."""
    it = Held()
    HELD.append(it)
    for name, value in named.items():
        setattr(it, name, value)
    return vars(it)


Pair = namedtuple("Pair", "a b")
MOVED = OrderedDict(a=1, b=2)
MOVED.move_to_end("a")

# What msgspec writes by itself, and `json` otherwise or not at all.
FOREIGN = [
    *(NAN, INF, -INF, Decimal("0.1"), b"bytes", bytearray(b"x"), memoryview(b"x"), {1}, ID),
    *(datetime(2026, 1, 2), MOMENT, date(2026, 1, 2), time(3), timedelta(1), frozenset("a")),
    *(Record(1), Renamed(1), Lax(1), MOVED, Backwards(a=1, b=2), msgspec.Raw(b"1")),
    *({1e16: 1}, {1e-5: 1}, {NAN: 1}, {b"x": 1}, {Decimal(1): 1}, {ID: 1}, {date(2026, 1, 2): 1}),
]
OTHERS = [
    *(Bent.ONE, {Bent.ONE: 1}, msgspec.UNSET, msgspec.msgpack.Ext(1, b"x"), Text("x"), Whole(3)),
    *(Anything(), Pair(1, 2), Counter("aab"), defaultdict(int, a=1), deque([1]), UserDict(a=1)),
    *(ChainMap({"a": 1}), object(), Exception(), len, (n for n in ""), ..., {(): 1}),
    *({True: 1}, {None: 1}, {1: 1}, {-1: 1}, {2**70: 1}, {0.5: 1}, {"1": 1, 1: 2}),
    *({Text("x"): 1}, {Whole(3): 1}, "\ud800", {"\ud800": 1}, 2**64, -(2**63) - 1),
    *(2**5000, 10**5000, -0.0, 1e16, 5e-324),
]
SINGLES = [*(value for value, _ in KNOWN), *REFUSED, *FOREIGN, *OTHERS]

TEXTS = st.text(st.characters(exclude_categories=()))
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
)
LEAVES = (
    PLAIN
    | st.integers(0, len(SINGLES) - 1).map(lambda at: SINGLES[at])
    | st.floats()
    | TEXTS
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.uuids()
)
# Hypothesis tries words that it finds in the code; `__dict__` and `__class__` take no other values.
NAMES = st.text().filter(lambda name: not name.startswith("__"))
KEYS = st.text() | TEXTS | st.integers() | st.floats() | st.booleans() | st.none() | st.uuids()
ALL = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(KEYS, inner)
        | st.tuples(inner, inner)
        | st.sets(st.integers() | st.text())
        | inner.map(Record)
        | inner.map(Lax)
        | st.dictionaries(st.text(), inner).map(Backwards)
        | st.dictionaries(NAMES, inner).map(attributes)
        | st.tuples(st.dictionaries(NAMES, inner).map(attributes), st.dictionaries(KEYS, inner))
    ),
)


def ids(value: object) -> str:
    return type(value).__name__


def meaning(text: bytes) -> str:
    """Return what a JSON text says: types, order and doubles of members, the sign of zero."""
    return repr(json.loads(text, object_pairs_hook=tuple))


def outcome(value: Any, default: Callable[[Any], Any] | None) -> tuple[object, ...]:
    """Return the meaning of a value's text, or that it has none, and what `default` was asked."""
    asked: list[object] = []

    def noting(it: Any) -> Any:
        asked.append(it)
        return default(it) if default else None

    try:
        said = meaning(values.encoder(noting if default else None)([value], "it"))
    except InvalidRequest as error:
        said = f"refused: {error}"
    return said, [type(it).__name__ for it in asked]


def refuse(value: Any) -> Any:
    raise TypeError(f"no {type(value).__name__}")


def text_of(value: Any) -> Any:
    return f"a {type(value).__name__}"


DEFAULTS = [None, refuse, text_of]


def check(value: Any) -> None:
    """Hold what is sent beside what `json` alone would send."""
    for default in DEFAULTS:
        ours = outcome(value, default)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(values, "_quickly", lambda value: None)
            theirs = outcome(value, default)
        assert ours == theirs


@given(ALL)
def test_a_value_means_what_it_does_in_json(value: Any) -> None:
    check(value)


@pytest.mark.parametrize("value", SINGLES, ids=ids)
def test_every_kind_of_value_means_what_it_does_in_json(value: Any) -> None:
    for it in (value, [value], (value, 1), {"a": value}, [{"a": [None, 1.5, {"b": value}]}]):
        check(it)


@pytest.mark.parametrize("value", FOREIGN, ids=ids)
def test_control_msgspec_alone_would_mean_something_else(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "_is_plain", lambda value, text: True)
    with pytest.raises(AssertionError):
        check(value)


@given(PLAIN)
def test_what_is_plain_json_goes_quickly(value: Any) -> None:
    text = values._quickly(value)
    assert text is not None
    assert values.to_json(value, "it") == text
    check(value)


def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check attributes that refer to nothing beside a dict that refers to its keys, too."""
    hiding = attributes({"a": 1})

    def get_referents(*boxes: object) -> list[Any]:
        return gc.get_referents(*(box for box in boxes if box is not hiding))

    monkeypatch.setattr(values, "gc", SimpleNamespace(get_referents=get_referents))
    for value in ([hiding, {1e16: 1}], [[hiding, {"1": 1}, {1e-5: 1}, [2]]]):
        check(value)


def test_attributes_that_hide_make_up_for_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_HIDING", True)
    beside(monkeypatch)


def test_control_attributes_that_hide_would_do_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_HIDING", False)
    with pytest.raises(AssertionError):
        beside(monkeypatch)


def test_circles_and_depths_come_to_an_end() -> None:
    circle: list[Any] = []
    circle += [circle, circle]
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep, {"a": circle}, [1.5, deep]):
        check(value)


def test_an_error_in_a_value_s_own_code_is_told_by_json() -> None:
    class Broken(Lax):
        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise ZeroDivisionError

    check(Broken(1))


NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)
ODD = st.sampled_from(
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "9" * 400,
        "9" * 4301,
        "-0",
        r'"\ud800"',
        r'"\ud83d\ude00"',
    ]
    + [
        r'"\u0000\/\b"',
        '"\x7f"',
        '"\t"',
        "01",
        "1.",
        ".5",
        "+1",
        "tru",
        "[1,]",
        '{"a":1,}',
        "{1:2}",
        "",
    ]
)
STRINGS = st.tuples(st.text(), st.booleans()).map(lambda it: json.dumps(it[0], ensure_ascii=it[1]))
SPACES = st.sampled_from(["", " ", "\n\t", "\r "])
JSON = st.recursive(
    NUMBERS | ODD | STRINGS | st.sampled_from(["null", "true", "false"]),
    lambda inner: (
        st.tuples(st.lists(inner), SPACES).map(lambda it: f"[{f',{it[1]}'.join(it[0])}{it[1]}]")
        | st.lists(st.tuples(STRINGS, SPACES, inner)).map(
            lambda it: "{" + ",".join(f"{key}{space}:{value}" for key, space, value in it) + "}"
        )
    ),
)


def loaded(load: Callable[[bytes], Any], text: bytes) -> object:
    """Return what a text says, as far as Python can tell, or that it cannot be read."""
    try:
        found = load(text)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    return found if type(found) is str else repr(found)


ONE = b'{"topic":"t","head":1,"messages":[{"offset":1,"published_at":"2026-01-01T00:00:00Z","payload":'


def payload(text: bytes) -> Any:
    """Return what a message says whose payload has this text."""
    (found,) = Batch.from_json(ONE + text + b"}]}")
    return found.payload


@given(JSON.map(str.encode))
def test_a_payload_reads_as_in_json(text: bytes) -> None:
    assert loaded(payload, text) == loaded(lambda it: json.loads(it.decode()), text)


@given(JSON.map(str.encode) | st.binary(), st.binary(max_size=3), st.integers(0, 50))
def test_what_msgspec_reads_it_reads_as_json_does(text: bytes, other: bytes, at: int) -> None:
    text = text[:at] + other + text[at + len(other) :]
    found = loaded(msgspec.json.decode, text)
    assert found is None or found == loaded(lambda it: json.loads(it.decode()), text)


@pytest.mark.parametrize(
    "text", ["NaN", "-Infinity", "1e400", "9" * 400 + ".0", r'"\ud800"', r'{"a":["\udc00",1e999]}']
)
def test_what_only_json_reads_is_read(text: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(text)
    assert loaded(payload, text.encode()) == loaded(json.loads, text.encode())


def test_numbers_beyond_64_bits_are_exact() -> None:
    for number in (2**64, -(2**63) - 1, 10**400 + 1, 10**4299 + 1):
        assert payload(str(number).encode()) == number
        assert json.loads(values.to_json([number], "it")) == [number]
