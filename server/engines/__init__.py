"""The engines: where topics, messages and positions are kept.

An engine answers in JSON text that goes out as it is, and raises `server.http.errors.Problem`. Nothing above
this interface knows about SQL.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol


class Batch(NamedTuple):
    """Messages to publish: payloads and headers as the text of JSON arrays, keys as many or none at all.

    `producer` and `sequence` number the publish.
    """

    payloads: str
    keys: list[str | None] | None = None
    headers: str | None = None
    producer: str | None = None
    sequence: int | None = None


class Published(NamedTuple):
    """Where a batch was stored; `duplicate` when an earlier publish with the same numbers had stored it."""

    first_offset: int
    last_offset: int
    duplicate: bool


class Fetched(NamedTuple):
    """A run of messages, as JSON text without the brackets, empty when there is none.

    `position` and `epoch` are the subscriber's in a fetch; a browse has the topic's `floor` as its position.
    """

    position: int
    epoch: int
    head: int
    messages: str


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
    """What the engine says of itself; `unsafe` names the settings that break the promise of durability."""

    version: str
    unsafe: list[str]


class Engine(Protocol):
    """What every engine does. Methods named after a verb of the queue do just that."""

    def create_topic(self, topic: str, description: str | None) -> str:
        """Make a topic; return it."""

    def topics(self, after: str | None, limit: int) -> str:
        """Return a page of topics, without the brackets."""

    def topic(self, topic: str) -> str:
        """Return one topic."""

    def delete_topic(self, topic: str) -> None:
        """Remove a topic with its messages and subscribers."""

    def publish(self, topic: str, batches: Sequence[Batch]) -> list[Published]:
        """Append batches in one transaction: all of them or none."""

    def browse(self, topic: str, offset: int | None, limit: int) -> Fetched:
        """Read without a subscriber."""

    def subscribe(
        self, topic: str, subscriber: str | None, start: str | int | datetime
    ) -> tuple[str, bool]:
        """Make or find a subscriber; return it and whether it is new."""

    def subscribers(self, topic: str, after: str | None, limit: int) -> str:
        """Return a page of subscribers, without the brackets."""

    def subscriber(self, topic: str, subscriber: str) -> str:
        """Return one subscriber."""

    def unsubscribe(self, topic: str, subscriber: str) -> None:
        """Remove a subscriber."""

    def fetch(
        self, topic: str, subscriber: str, limit: int, after: int | None, epoch: int | None
    ) -> Fetched:
        """Read from the position on, or after another offset; in one epoch only, if that is given."""

    def ack(self, topic: str, subscriber: str, offset: int, epoch: int) -> Acked:
        """Move a position forward."""

    def seek(
        self,
        topic: str,
        subscriber: str,
        offset: int | None,
        timestamp: datetime | None,
        dry_run: bool,
    ) -> str:
        """Move one subscriber; return it."""

    def reset(
        self, topic: str, offset: int | None, timestamp: datetime | None, dry_run: bool
    ) -> tuple[int, int]:
        """Move all subscribers of a topic; return the position and how many they are."""

    def heads(self, topics: list[str]) -> dict[str, int]:
        """Return the heads of those topics that exist."""

    def lags(self) -> tuple[list[Lag], int]:
        """Return the subscribers' lags, those furthest behind, and how many were left out."""

    def tidy(self) -> int:
        """Remove a chunk of what nobody needs any more; return how many rows."""

    def health(self) -> Health:
        """Say whether the engine answers and keeps its promises."""

    def announce(self, topics: list[str]) -> None:
        """Tell every server of this database that something happened to these topics."""

    def listen(self, heard: Callable[[set[str]], None], stopped: Callable[[], bool]) -> None:
        """Call `heard` with topics as others announce them, and with none now and then, until stopped or cut off."""

    def close(self) -> None:
        """Close every connection."""
