"""What every peer can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Protocol, Self

# How many messages a reader asks for at a time, as one that has to catch up does.
LIMIT = 10_000
# No wait is longer than this, in seconds.
PATIENCE = 120

# Receives and acknowledges so many messages at the most; returns how many.
Reader = Callable[[int], int]


class Stand(Protocol):
    """Where the queues that live in Postgres do: one cluster for all of them, with durable settings."""

    def dsn(self, name: str) -> str:
        """Make an empty database of this name; return its DSN."""


class TooFewError(Exception):
    """A reader did not get all that was published; the message says whose and how many it got."""


class Peer(ABC):
    """A queue with one publisher and some readers, each of whom gets every message.

    As a context manager it is started and ended. Then: `prepare`, `publish` as often as one likes, `drain`,
    and so on. `ack_means` says what a publish or an acknowledgement that has returned survives.
    """

    ack_means = "fsync"

    def __init__(self, name: str, stand: Stand) -> None:
        self.name = name
        self._stand = stand
        self._readers: Sequence[Reader] = ()

    def __enter__(self) -> Self:
        self._opened = ExitStack()
        try:
            self._start(self._opened)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all that was started."""
        self._opened.close()

    @abstractmethod
    def prepare(self, subscribers: int) -> None:
        """Make an empty queue with so many readers."""

    @abstractmethod
    def publish(self, payloads: Sequence[str]) -> None:
        """Publish JSON texts as one batch; one text alone is published as a single message."""

    def drain(self, count: int) -> int:
        """Let all readers at once receive and acknowledge `count` messages each.

        Returns how many were delivered in all. Raises TooFewError.
        """
        with ThreadPoolExecutor(len(self._readers)) as threads:
            return sum(threads.map(lambda reader: self._read_all(reader, count), self._readers))

    def wal(self) -> int | None:
        """Return how many bytes of WAL its cluster has written so far; None where there is no Postgres."""
        return None

    @abstractmethod
    def _start(self, opened: ExitStack) -> None:
        """Start what is needed, so that `opened` ends it."""

    def _read_all(self, receive: Reader, count: int) -> int:
        received = 0
        while received < count:
            more = receive(min(LIMIT, count - received))
            if not more:
                raise TooFewError(f"{self.name}: a reader got {received:,} of {count:,} messages")
            received += more
        return received
