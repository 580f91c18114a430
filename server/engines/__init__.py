"""The engines: where topics, messages and positions are kept.

An engine is asked on one event loop, answers in JSON text that goes out as it is, and raises only what stands in
`server.engines.errors`. Nothing above this interface knows about SQL. Whoever is cancelled while an engine is at work
has given up the answer, not the work: it may still be done.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol


class Batch(NamedTuple):
    """So many messages to publish: payloads and headers as the text of JSON arrays, keys as many or none at all.

    `producer` and `sequence` number the publish.
    """

    payloads: str
    length: int
    keys: list[str | None] | None = None
    headers: str | None = None
    producer: str | None = None
    sequence: int | None = None


class Published(NamedTuple):
    """Where a batch was stored; `duplicate` when an earlier publish with the same numbers had stored it."""

    first_offset: int
    last_offset: int
    duplicate: bool


class Fetch(NamedTuple):
    """What a subscriber wants to read: from its position on, or after another offset; in one epoch only, if given."""

    subscriber: str
    limit: int
    after: int | None = None
    epoch: int | None = None


class Fetched(NamedTuple):
    """A run of messages, as JSON text without the brackets, empty when there is none.

    `position` and `epoch` are the subscriber's in a fetch; a browse has the topic's `floor` as its position.
    """

    position: int
    epoch: int
    head: int
    messages: str


class Ack(NamedTuple):
    """Everything up to `offset` is done; the epoch is the one of the fetch."""

    subscriber: str
    offset: int
    epoch: int


class Acked(NamedTuple):
    """A subscriber after an ack."""

    position: int
    epoch: int
    head: int
    lag: int


class Lag(NamedTuple):
    """How far behind a subscriber is, in messages and in seconds."""

    topic: str
    subscriber: str
    messages: int
    seconds: float


class Health(NamedTuple):
    """Which `engine` it is, in words; `unsafe` names the settings that break the promise of durability."""

    engine: str
    unsafe: list[str]


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
        self, topic: str, subscriber: str | None, start: str | int | datetime
    ) -> tuple[str, bool]:
        """Make or find a subscriber; return it and whether it is new."""

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

    async def announce(self, topics: list[str]) -> None:
        """Tell every server of this database that something happened to these topics."""

    def listen(self) -> AsyncIterator[set[str]]:
        """Yield topics as others announce them, and none now and then; raise when cut off."""

    async def close(self) -> None:
        """Close every connection."""
