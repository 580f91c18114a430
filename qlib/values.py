"""What people publish, as JSON: what JSON knows, and dates and the like as everybody writes them.

A datetime, date or time becomes its ISO 8601 text, a UUID its text, an Enum its value, a dataclass an
object of its fields, a scalar of numpy a number (or the text of its time). Containers may hold them;
dict keys and subclasses of JSON's own types are as in `json.dumps`. The rest has no one meaning and is
refused: Decimal, bytes, sets, timedelta, NaN and Infinity. `default` has the first word on all that
`json.dumps` would ask it for, and here on NaN and Infinity too.

msgspec writes JSON in a tenth of the time, and much of what `json` refuses or asks about, too: so it
has the word only on values that are nothing but JSON's own types.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from json import JSONEncoder
from math import isfinite
from typing import Any
from uuid import UUID

import msgspec

from qlib.errors import InvalidRequest

Default = Callable[[Any], Any]
Encode = Callable[[object, str], bytes]
"""Returns a value as compact JSON in UTF-8; InvalidRequest, which tells its name, if it has none."""

_BOXES = frozenset((dict, list, tuple))
_PLAIN = _BOXES | {str, int, float, bool, type(None)}
# There `vars(it)` of an object refers to nothing: the object does.
_HIDING = sys.version_info >= (3, 13)
_encode = msgspec.json.Encoder().encode


def encoder(default: Default | None = None) -> Encode:
    """Return what makes JSON of values, with the help of `default` as in `json.dumps`."""
    convert = _plain if default is None else _first(default)
    options: Any = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    encode = JSONEncoder(default=convert, **options).encode

    def written(value: object, name: str) -> bytes:
        if (text := _quickly(value)) is not None:
            return text
        try:
            try:
                return encode(value).encode()
            except ValueError:
                # json asks nobody about a float; looking through all of them beforehand costs too much
                if default is None:
                    raise
                return encode(_without_nan(value, default, convert)).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(f"{name} is not JSON: {_told(error)}") from error

    return written


def _quickly(value: object) -> bytes | None:
    """Return msgspec's text when `json` would write one of the same meaning; else None."""
    try:
        text = _encode(value)
    except Exception:  # a value may run code of its own; json does so again, and tells
        return None
    # Only now: a value that has a text does not go round in circles.
    return text if _is_plain(value, text) else None


def _is_plain(value: object, text: bytes) -> bool:
    """Say whether what has this text is of JSON's own types throughout, and no subclass of them.

    Keys are texts, and numbers finite. Looking at one value after the other takes twice as long.
    """
    if type(value) not in _BOXES:
        return type(value) in _PLAIN and not (type(value) is float and text == b"null")
    boxes: list[Any] = [value]
    while boxes:
        found = gc.get_referents(*boxes)
        # CPython keeps a dict apart whose keys are all of type str, and refers to its values only:
        # of any other dict it finds the keys, too, and so more than there are items.
        if len(found) != sum(map(len, boxes)) or (_HIDING and _one_hides(boxes)):
            return False
        kinds = set(map(type, found))
        if not kinds <= _PLAIN:
            return False
        # msgspec writes NaN and Infinity so, but None, too.
        if float in kinds and b"null" in text and not _are_finite(found):
            return False
        boxes = [] if kinds.isdisjoint(_BOXES) else [it for it in found if type(it) in _BOXES]
    return True


def _one_hides(boxes: list[Any]) -> bool:
    """Say whether something does not tell what it holds, and so may make up for the keys of another."""
    return len(boxes) > 1 and any(box and not gc.get_referents(box) for box in boxes)


def _are_finite(found: list[Any]) -> bool:
    return all(isfinite(it) for it in found if type(it) is float)


def is_table(value: object) -> bool:
    """Say whether this is a table of pandas, polars, pyarrow …: its iteration is over columns."""
    return hasattr(type(value), "columns") and hasattr(type(value), "shape")


def _first(default: Default) -> Default:
    def convert(value: Any) -> Any:
        try:
            return default(value)
        except TypeError as refused:
            try:
                return _plain(value)
            except TypeError:
                raise refused from None

    return convert


def _plain(value: Any) -> Any:
    """Return what stands for a value that JSON does not know; TypeError when nothing does."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, date | time) and value == value:  # not so pandas' NaT, a datetime too
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if numpy := sys.modules.get("numpy"):
        if isinstance(value, numpy.bool_ | numpy.integer):
            return value.item()
        if isinstance(value, numpy.floating):
            return float(value)
        if isinstance(value, numpy.datetime64) and value == value:
            return str(value)
    raise TypeError(_unknown(value))


def _unknown(value: object) -> str:
    kind = type(value).__name__
    if is_table(value):
        return f"a {kind} is many messages: publish_many(topic, {RECORDS})"
    if hasattr(value, "tolist"):
        return f"it holds a {kind}: its .tolist() is JSON"
    return f"it holds a {kind}; convert it, or say how: QPublisher(default=…), as in json.dumps"


RECORDS = 'df.to_dict("records") of pandas, df.to_dicts() of polars, table.to_pylist() of pyarrow'


def _told(error: Exception) -> str:
    if str(error).startswith("Out of range float"):
        return "it holds NaN or Infinity; QPublisher(default=…) may say what stands for them"
    return str(error)


def _without_nan(value: Any, default: Default, convert: Default) -> Any:
    """Return a value in JSON's types, and for each NaN or Infinity what `default` makes of it."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item) for item in value]
        if isinstance(value, float) and not isfinite(value):
            return default(value)
        if value is None or isinstance(value, str | int | float):
            return value
        return walk(convert(value))

    return walk(value)


to_json = encoder()
