"""The engines: where topics, messages and positions are kept.

An engine is asked on one event loop, answers in JSON text that goes out as it is, and raises only what stands in
`server.engines.errors`. Nothing above this interface knows about SQL. Whoever is cancelled while an engine is at work
has given up the answer, not the work: it may still be done.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

from server.engines.values import (
    Ack,
    Acked,
    Batch,
    Fetch,
    Fetched,
    Health,
    Lag,
    Lease,
    LeaseAck,
    LeaseAcked,
    Leased,
    Nack,
    Nacked,
    Published,
    Workload,
    WorkSettings,
)

__all__ = [
    "Ack",
    "Acked",
    "Batch",
    "Engine",
    "Fetch",
    "Fetched",
    "Health",
    "Lag",
    "Lease",
    "LeaseAck",
    "LeaseAcked",
    "Leased",
    "Nack",
    "Nacked",
    "Published",
    "WorkSettings",
    "Workload",
]


class Engine(Protocol):
    """What every engine does. Methods named after a verb of the queue do just that."""

    async def create_topic(self, topic: str, description: str | None) -> str:
        """Make a topic; return it."""

    async def topics(self, after: str | None, limit: int) -> str:
        """Return a page of topics, without the brackets."""

    async def topic(self, topic: str) -> str:
        """Return one topic."""

    async def delete_topic(self, topic: str) -> None:
        """Remove a topic with its messages and subscribers."""

    async def publish(self, topic: str, batches: Sequence[Batch]) -> list[Published]:
        """Append batches in one transaction: all of them or none."""

    async def browse(self, topic: str, offset: int | None, limit: int) -> Fetched:
        """Read without a subscriber."""

    async def subscribe(
        self,
        topic: str,
        subscriber: str | None,
        start: str | int | datetime,
        settings: WorkSettings | None = None,
    ) -> tuple[str, bool]:
        """Make or find a subscriber; return it and whether it is new: only then the settings are taken."""

    async def subscribers(self, topic: str, after: str | None, limit: int) -> str:
        """Return a page of subscribers, without the brackets."""

    async def subscriber(self, topic: str, subscriber: str) -> str:
        """Return one subscriber."""

    async def unsubscribe(self, topic: str, subscriber: str) -> None:
        """Remove a subscriber."""

    async def fetch(self, topic: str, fetches: Sequence[Fetch]) -> list[Fetched]:
        """Read for several subscribers, in no more bytes than for one, but at least one message each."""

    async def ack(self, topic: str, acks: Sequence[Ack]) -> list[Acked]:
        """Move positions forward in one transaction: all of them or none."""

    async def lease(self, topic: str, leases: Sequence[Lease]) -> list[Leased]:
        """Lease messages to workers of one subscriber, in no more bytes than for one, but at least one message each."""

    async def ack_leases(self, topic: str, acks: Sequence[LeaseAck]) -> list[LeaseAcked]:
        """Say of messages of leases that they are done, in one transaction: all of them or none."""

    async def nack(self, topic: str, nack: Nack) -> Nacked:
        """Give messages of a lease back."""

    async def extend(self, topic: str, subscriber: str, lease: str, seconds: float) -> str:
        """Hold what is left of a lease for longer; return until when."""

    async def leases(self, topic: str, subscriber: str, after: int | None, limit: int) -> str:
        """Return a page of leases, without the brackets."""

    async def dead(self, topic: str, subscriber: str, after: int | None, limit: int) -> str:
        """Return a page of dead letters, without the brackets."""

    async def redrive(
        self, topic: str, subscriber: str, offsets: list[int] | None, limit: int
    ) -> int:
        """Give dead letters to the workers again; return how many."""

    async def remove_dead(
        self, topic: str, subscriber: str, offsets: list[int] | None, limit: int
    ) -> int:
        """Remove dead letters for good; return how many."""

    async def configure(self, topic: str, subscriber: str, settings: WorkSettings) -> str:
        """Change settings of a subscriber, those that are given; return it."""

    async def acts(self, works: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, int]]:
        """Return what was done last to the workers of those topics and subscribers that exist: epoch, newest act."""

    async def workloads(self) -> list[Workload]:
        """Return what the workers of each subscriber that has, or had, any are at."""

    async def seek(
        self,
        topic: str,
        subscriber: str,
        offset: int | None,
        timestamp: datetime | None,
        dry_run: bool,
    ) -> str:
        """Move one subscriber; return it."""

    async def reset(
        self, topic: str, offset: int | None, timestamp: datetime | None, dry_run: bool
    ) -> tuple[int, int]:
        """Move all subscribers of a topic; return the position and how many they are."""

    async def heads(self, topics: list[str]) -> dict[str, int]:
        """Return the heads of those topics that exist."""

    async def lags(self) -> tuple[list[Lag], int]:
        """Return the subscribers' lags, those furthest behind, and how many were left out."""

    async def tidy(self) -> int:
        """Remove a chunk of what nobody needs any more; return how many rows."""

    async def health(self) -> Health:
        """Say whether the engine answers and keeps its promises."""

    async def announce(self, names: list[str]) -> None:
        """Tell every server of this database that something happened under these names."""

    def listen(self) -> AsyncIterator[set[str]]:
        """Yield names as others announce them, and none now and then; raise when cut off."""

    async def close(self) -> None:
        """Close every connection."""
