"""What is published: JSON texts of one size, each different, and a plain table to put them into."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from tests.bench.stand import Stand

SQL, HTTP, QLIB = "ours (SQL)", "ours (HTTP)", "ours (qlib)"
PLAIN = "create table if not exists plain (like queue.message including all)"
_WHEN = "2026-01-01 00:00:00.000000+00"


def payloads(count: int, size: int = 100) -> list[str]:
    """Return JSON objects as texts of `size` bytes."""
    texts = [f'{{"id": {number}, "data": "' for number in range(count)]
    return [text + "x" * (size - len(text) - 2) + '"}' for text in texts]


def batches(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Yield the texts, `size` at a time."""
    return (texts[first : first + size] for first in range(0, len(texts), size))


def array(texts: Sequence[str]) -> str:
    """Return a JSON array of JSON texts."""
    return f"[{','.join(texts)}]"


def request_body(texts: Sequence[str]) -> str:
    """Return the request that publishes JSON texts as one batch."""
    return f'{{"payloads":{array(texts)}}}'


class Plain:
    """Writes to a table with the columns and the primary key of queue.message, and without a queue.

    Each writer has a topic_id of its own, `topic`, which is the first column of the key.
    """

    def __init__(self, stand: Stand) -> None:
        self._cursor = stand.cursor()
        self._cursor.execute(PLAIN)
        self.topic = next(stand.numbers)
        self._last = 0

    def insert(self, text: str) -> None:
        """Insert one row, and commit."""
        self._last += 1
        self._cursor.execute(
            'insert into plain (topic_id, "offset", published_at, payload) values (%s, %s, clock_timestamp(), %s)',
            (self.topic, self._last, text),
        )

    def rows(self, texts: Sequence[str]) -> io.StringIO:
        """Return the next rows as COPY reads them."""
        start = self._last + 1
        self._last += len(texts)
        return io.StringIO(
            "".join(
                f"{self.topic}\t{offset}\t{_WHEN}\t\\N\t\\N\t{text}\n"
                for offset, text in enumerate(texts, start)
            )
        )

    def copy(self, rows: io.StringIO) -> None:
        """Copy rows into the table, and commit."""
        self._cursor.copy_expert("copy plain from stdin", rows)
