"""Rows of messages as the texts that travel: encoded once, cut into batches, put into a body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from qlib.errors import InvalidRequest
from qlib.transport import to_json

Row = tuple[bytes, ...]

_MOST_MESSAGES = 1000
_MOST_BYTES = 4 * 2**20


def columns(
    payloads: Iterable[Any], keys: Iterable[Any] | None, headers: Iterable[Any] | None
) -> dict[str, Iterable[Any]]:
    """Return the columns that are given, under the names they have in a request.

    Raises InvalidRequest for what is no column: a text or a dict would be taken apart.
    """
    given = {"payloads": payloads, "keys": keys, "headers": headers}
    for name, column in given.items():
        whole = isinstance(column, str | bytes | Mapping) or not isinstance(column, Iterable)
        if whole and (column is not None or name == "payloads"):
            raise InvalidRequest(f"{name} must be a list, or another iterable, with a value a row")
    return {name: column for name, column in given.items() if column is not None}


def rows(columns: dict[str, Iterable[Any]]) -> Iterator[Row]:
    """Yield each row as JSON texts; InvalidRequest for a value or for columns of odd lengths."""
    for index, row in enumerate(zip_longest(*(_texts(*named) for named in columns.items()))):
        if None in row:
            raise InvalidRequest(f"{', '.join(columns)} differ in length: one ends at {index}")
        yield row


def _texts(name: str, column: Iterable[Any]) -> Iterator[bytes]:
    for index, value in enumerate(column):
        yield to_json(value, f"{name}[{index}]")


def split(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Yield the rows in batches of at most 1,000 messages and, but for one large row, 4 MiB."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        weight = sum(map(len, row))
        if batch and (len(batch) == _MOST_MESSAGES or size + weight > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += weight
    if batch:
        yield batch


def body(names: list[str], batch: list[Row], numbered: dict[str, bytes]) -> bytes:
    """Return the request for one batch, of the texts as they are."""
    columns = (b"[" + b",".join(column) + b"]" for column in zip(*batch, strict=True))
    fields = chain(zip(names, columns, strict=True), numbered.items())
    return b"{" + b",".join(b'"%s":%s' % (name.encode(), text) for name, text in fields) + b"}"


def joined(ranges: list[range]) -> Sequence[int]:
    """Return the offsets of several batches in order: a `range` when they leave no gap."""
    if not ranges:
        return range(0)
    whole = range(ranges[0].start, ranges[-1].stop)
    return whole if len(whole) == sum(map(len, ranges)) else tuple(chain.from_iterable(ranges))
