"""Rows of messages as the texts that travel: encoded once, cut into batches, put into a body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from qlib.errors import InvalidRequest
from qlib.values import RECORDS, Encode, is_table

Columns = Mapping[str, Iterable[Any]]
# How many rows, and for each column the JSON of its values, with commas between.
Rows = tuple[int, tuple[bytes, ...]]

_MOST_MESSAGES = 1000
_MOST_BYTES = 4 * 2**20
_TOGETHER = 100
_WHOLE = (str, bytes, bytearray, memoryview, Mapping)


@dataclass(frozen=True, slots=True)
class Encoded:
    """The messages of one request; the caller's row `first` is the first of them."""

    rows: list[Rows]
    first: int

    def __len__(self) -> int:
        """Return how many messages they make."""
        return sum(number for number, _ in self.rows)


def columns(
    payloads: Iterable[Any], keys: Iterable[Any] | None, headers: Iterable[Any] | None
) -> dict[str, Iterable[Any]]:
    """Return the columns that are given, under the names they have in a request.

    Raises InvalidRequest for what is no column: a text, a dict or a table would be taken apart.
    """
    given = {"payloads": payloads, "keys": keys, "headers": headers}
    for name, column in given.items():
        if is_table(column):
            raise InvalidRequest(f"{name} is a table; its rows are {RECORDS}")
    return {
        name: _column(name, column)
        for name, column in given.items()
        if column is not None or name == "payloads"
    }


def _column(name: str, column: Any) -> Iterable[Any]:
    try:
        if not isinstance(column, _WHOLE) and isinstance(column, Iterable):
            return column if isinstance(column, list | tuple) else iter(column)
    except TypeError:
        pass  # an array without a dimension has __iter__, and no iterator
    raise InvalidRequest(f"{name} must be a list, or another iterable, with a value a row")


def rows(columns: Columns, to_json: Encode) -> Iterator[Rows]:
    """Yield the rows as JSON; InvalidRequest for a value or for columns of odd lengths.

    Of lists a hundred at a time, which takes a third of the time. Of anything else one by one, each
    before the next is drawn: a generator may change a row that it has yielded.
    """
    lists = {name: column for name, column in columns.items() if isinstance(column, list | tuple)}
    if len(lists) < len(columns):
        yield from _one_by_one(columns, 0, to_json)
        return
    for first in range(0, max(map(len, lists.values())), _TOGETHER):
        some = {name: column[first : first + _TOGETHER] for name, column in lists.items()}
        yield from _together(some, to_json) or _one_by_one(some, first, to_json)


def _together(some: Mapping[str, Sequence[Any]], to_json: Encode) -> list[Rows]:
    number, *others = map(len, some.values())
    try:
        texts = tuple(to_json(values, name)[1:-1] for name, values in some.items())
    except InvalidRequest:
        return []  # one by one it shows which value it is
    fits = all(number == other for other in others) and sum(map(len, texts)) <= _MOST_BYTES
    return [(number, texts)] if fits else []


def _one_by_one(columns: Columns, first: int, to_json: Encode) -> Iterator[Rows]:
    texts = (_texts(name, column, first, to_json) for name, column in columns.items())
    for index, row in enumerate(zip_longest(*texts), first):
        if None in row:
            raise InvalidRequest(f"{', '.join(columns)} differ in length: one ends at {index}")
        yield 1, row


def _texts(name: str, column: Iterable[Any], first: int, to_json: Encode) -> Iterator[bytes]:
    for index, value in enumerate(column, first):
        yield to_json(value, f"{name}[{index}]")


def split(rows: Iterable[Rows]) -> Iterator[Encoded]:
    """Yield the rows in batches of at most 1,000 messages and, but for one large row, 4 MiB."""
    batch: list[Rows] = []
    first = count = size = 0
    for number, texts in rows:
        weight = sum(map(len, texts))
        if batch and (count + number > _MOST_MESSAGES or size + weight > _MOST_BYTES):
            yield Encoded(batch, first)
            batch, first, count, size = [], first + count, 0, 0
        batch.append((number, texts))
        count += number
        size += weight
    if batch:
        yield Encoded(batch, first)


def body(names: list[str], batch: Encoded, numbered: dict[str, bytes]) -> bytes:
    """Return the request for one batch, of the texts as they are."""
    texts = zip(*(texts for _, texts in batch.rows), strict=True)
    columns = (b"[" + b",".join(column) + b"]" for column in texts)
    fields = chain(zip(names, columns, strict=True), numbered.items())
    return b"{" + b",".join(b'"%s":%s' % (name.encode(), text) for name, text in fields) + b"}"


def joined(parts: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the offsets of several batches in order: a `range` when they leave no gap."""
    if not parts:
        return range(0)
    whole = range(parts[0][0], parts[-1][-1] + 1)
    return whole if len(whole) == sum(map(len, parts)) else tuple(chain.from_iterable(parts))


def told(ranges: list[range]) -> str:
    """Return in words which offsets several batches have."""
    if not ranges:
        return "nothing"
    number = sum(map(len, ranges))
    return f"{number} messages, offsets {ranges[0].start} to {ranges[-1].stop - 1}"
