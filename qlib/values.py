"""What people publish, as JSON: what JSON knows, and dates and the like as everybody writes them.

A datetime, date or time becomes its ISO 8601 text, a UUID its text, an Enum its value, a dataclass an
object of its fields, a scalar of numpy a number (or the text of its time). Containers may hold them;
dict keys and subclasses of JSON's own types are as in `json.dumps`. The rest has no one meaning and is
refused: Decimal, bytes, sets, timedelta, NaN and Infinity. `default` has the first word on all that
`json.dumps` would ask it for, and here on NaN and Infinity too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from json import JSONEncoder
from math import isfinite
from typing import Any
from uuid import UUID

from qlib.errors import InvalidRequest

Default = Callable[[Any], Any]
Encode = Callable[[object, str], bytes]
"""Returns a value as compact JSON in UTF-8; InvalidRequest, which tells its name, if it has none."""


def encoder(default: Default | None = None) -> Encode:
    """Return what makes JSON of values, with the help of `default` as in `json.dumps`."""
    convert = _plain if default is None else _first(default)
    options: Any = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    encode = JSONEncoder(default=convert, **options).encode

    def to_json(value: object, name: str) -> bytes:
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

    return to_json


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
