"""What a run leaves behind: small fixed records, a file of them for each process.

Times are nanoseconds of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any, Generic, NamedTuple, TypeVar
from zlib import crc32

from qlib.errors import QueueError

T = TypeVar("T")
Record = TypeVar("Record", bound=tuple[int, ...])

_RECORDS_READ = 4096
_LONGEST_PADDING = 24  # times eight characters
_CHECKSUM = 2**61 - 1


def _names(error: type[QueueError]) -> list[str]:
    branches = error.__subclasses__()
    return [name for branch in branches for name in _names(branch)] or [error.__name__]


OUTCOMES = ("ok", *sorted(_names(QueueError)))
OK, STALE, UNKNOWN, UNAVAILABLE = map(
    OUTCOMES.index, ("ok", "StaleEpoch", "OutcomeUnknown", "Unavailable")
)


class Publish(NamedTuple):
    """One publish: `size` messages from `n` on; `offset` is the answer, or 0."""

    topic: int
    n: int
    size: int
    offset: int
    outcome: int
    started: int
    ended: int


class Fetch(NamedTuple):
    """One fetch: what it asked for, and what came; `first` and `last` are 0 when nothing did."""

    limit: int
    wait: int
    position: int
    epoch: int
    first: int
    last: int
    size: int
    checksum: int
    outcome: int
    started: int
    ended: int


class Ack(NamedTuple):
    """One ack: of an offset in an epoch; `position` is the answer, or -1."""

    offset: int
    epoch: int
    position: int
    outcome: int
    started: int
    ended: int


class Move(NamedTuple):
    """One reset (`subscriber` is -1) or seek to a position."""

    topic: int
    subscriber: int
    position: int
    outcome: int
    started: int
    ended: int


class Stored(NamedTuple):
    """One message of the final read; `publisher` is -1 when no publisher makes such a payload."""

    offset: int
    publisher: int
    n: int


@dataclass(frozen=True)
class History:
    """All that is known of a run; subscriber i reads topic i modulo the number of topics.

    `publishes`, `fetches` and `acks` hold one series a process, in the order of its doing,
    `stored` one a topic, and `failures` what went wrong beside the queue's own errors.
    """

    topics: int
    publishes: Sequence[Iterable[Publish]]
    fetches: Sequence[Iterable[Fetch]]
    acks: Sequence[Iterable[Ack]]
    moves: Sequence[Move]
    stored: Sequence[Iterable[Stored]]
    failures: Sequence[str] = ()


class Log(Generic[Record]):
    """A file of records; reading it takes no more memory than a few of them."""

    def __init__(self, path: Path, kind: type[Record]) -> None:
        """Nothing is read or written yet."""
        self._path = path
        self._make: Callable[[Iterable[int]], Record] = kind._make  # type: ignore[attr-defined]
        self._struct = Struct(f"{len(kind._fields)}q")  # type: ignore[attr-defined]

    @contextmanager
    def writing(self) -> Iterator[Callable[[Record], None]]:
        """Give a function that appends a record; all are in the file when the block is left."""
        with self._path.open("wb") as file:
            yield lambda record: _discard(file.write(self._struct.pack(*record)))

    def __iter__(self) -> Iterator[Record]:
        """Read the records from the first one on."""
        size = self._struct.size
        with self._path.open("rb") as file:
            while block := file.read(size * _RECORDS_READ):
                # A process that was killed may have left half a record.
                yield from map(
                    self._make, self._struct.iter_unpack(block[: len(block) // size * size])
                )


def _discard(_: object) -> None:
    pass


def timed(call: Callable[[], T]) -> tuple[T | None, tuple[int, int, int]]:
    """Make a call to the queue; return its result, or None, and outcome, start and end."""
    started = time.monotonic_ns()
    result, outcome = None, OK
    try:
        result = call()
    except QueueError as error:
        outcome = OUTCOMES.index(type(error).__name__)
    return result, (outcome, started, time.monotonic_ns())


def payload(publisher: int, n: int) -> dict[str, Any]:
    """Return the one payload that a publisher sends as its message `n`."""
    digest = crc32(b"%d/%d" % (publisher, n))
    return {
        "publisher": publisher,
        "n": n,
        "padding": f"{digest:08x}" * (digest % _LONGEST_PADDING),
    }


def sender(received: Any) -> tuple[int, int]:
    """Return the publisher and `n` that a payload comes from, (-1, -1) when from nobody."""
    try:
        publisher, n = received["publisher"], received["n"]
        genuine = type(publisher) is type(n) is int and received == payload(publisher, n)
    except (KeyError, TypeError):
        return -1, -1
    return (publisher, n) if genuine else (-1, -1)


def checksum(before: int, offset: int, publisher: int, n: int) -> int:
    """Add a message at its offset to a checksum, which a run of messages shares only with itself.

    The sum over a run is the difference of two sums from the topic's start.
    """
    return (before + offset * ((publisher << 32) + n + 1)) % _CHECKSUM


def difference(whole: int, before: int) -> int:
    """Return the checksum of a run: of all up to its end without all before it."""
    return (whole - before) % _CHECKSUM
