"""Stand-ins for the two clients, which record all that is done through them."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any

from qlib import batches, consumer
from qlib.attempts import Outage
from qlib.buffered import Buffered
from qlib.lab.history.operation import Recorder, messages, values
from qlib.lab.history.watched_workers import WatchedWorkers, standing
from qlib.models import Batch, Message, Reset, Subscriber, Topic
from qlib.places import Place
from qlib.publisher import QPublisher
from qlib.sending import store_in_order
from qlib.subscriber import QSubscriber


class _Watched:
    """What both stand-ins have: the client that does the work, and the recorder."""

    def __init__(self, client: QPublisher | QSubscriber, recorder: Recorder) -> None:
        self._inner, self._recorder = client, recorder

    def __repr__(self) -> str:
        return f"watched {self._inner!r}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the client's connections."""
        self._inner.close()


class WatchedPublisher(_Watched):
    """A QPublisher whose every operation is recorded; see there for the methods."""

    def __init__(self, client: QPublisher, recorder: Recorder) -> None:
        """Nothing is sent."""
        super().__init__(client, recorder)
        self._client = client

    def __enter__(self) -> WatchedPublisher:
        """Return the stand-in itself."""
        return self

    def publish(
        self,
        topic: str,
        payload: Any,
        key: str | None = None,
        headers: dict[str, Any] | None = None,
        *,
        sequence: int | None = None,
    ) -> int:
        """Store one message and return its offset; with `sequence` known to be numbered."""
        number = {} if sequence is None else {"producer": self._recorder.process}
        return self._recorder.call(
            "publish",
            topic,
            lambda: self._client.publish(topic, payload, key, headers, sequence=sequence),
            lambda offset: {"offsets": (offset,)},
            values=values([payload], self._client._to_json),
            sequence=sequence,
            **number,
        )

    def publish_many(
        self,
        topic: str,
        payloads: Iterable[Any],
        keys: Iterable[str | None] | None = None,
        headers: Iterable[dict[str, Any] | None] | None = None,
    ) -> Sequence[int]:
        """Store many messages; each batch that the client makes of them is an operation."""
        columns = batches.columns(payloads, keys, headers)
        rows = batches.rows(columns, self._client._to_json)
        return store_in_order(rows, partial(self._store, topic, list(columns)))

    def buffered(
        self, topic: str, *, linger: float = 0.005, batch: int = 1000, pending: int = 10_000
    ) -> Buffered:
        """Return a buffer; each batch that it sends is an operation."""
        return Buffered(topic, self._client._to_json, self._store, linger, batch, pending)

    def _store(self, topic: str, names: list[str], batch: batches.Encoded) -> range:
        column = names.index("payloads")
        payloads = b",".join(texts[column] for _, texts in batch.rows)
        return self._recorder.call(
            "publish",
            topic,
            lambda: self._client._numbered.store(topic, names, batch),
            lambda offsets: {"offsets": tuple(offsets)},
            values=values(json.loads(b"[%s]" % payloads)),
        )

    def browse(self, topic: str, offset: int | None = None, limit: int = 100) -> Batch:
        """Read without a subscriber."""
        return self._recorder.call(
            "browse",
            topic,
            lambda: self._client.browse(topic, offset, limit),
            messages,
            offset=offset,
            limit=limit,
        )

    def reset_topic(self, topic: str, to: Place, *, dry_run: bool = False) -> Reset:
        """Move every subscriber of a topic."""
        return self._recorder.call(
            "dry_run" if dry_run else "reset",
            topic,
            lambda: self._client.reset_topic(topic, to, dry_run=dry_run),
            lambda reset: {"offset": reset.offset},
            offset=_position(to),
        )

    def create_topic(
        self, topic: str, description: str | None = None, *, exist_ok: bool = False
    ) -> Topic:
        """Make a topic."""
        return self._recorder.call(
            "create_topic",
            topic,
            lambda: self._client.create_topic(topic, description, exist_ok=exist_ok),
        )

    def delete_topic(self, name: str) -> None:
        """Delete a topic, which is then left out of the check."""
        self._recorder.call("delete_topic", name, lambda: self._client.delete_topic(name))

    def topic(self, name: str) -> Topic:
        """Return one topic."""
        return self._recorder.call("topic", name, lambda: self._client.topic(name))

    def topics(self) -> list[Topic]:
        """Return all topics."""
        return self._recorder.call("topics", "", self._client.topics)

    def subscribers(self, topic: str) -> list[Subscriber]:
        """Return all subscribers of a topic."""
        return self._recorder.call("subscribers", topic, lambda: self._client.subscribers(topic))


class WatchedSubscriber(_Watched, WatchedWorkers):
    """A QSubscriber whose every operation is recorded; see there for the methods."""

    def __init__(self, client: QSubscriber, recorder: Recorder) -> None:
        """Ask where the subscriber stands: that is the first operation, called subscribe."""
        super().__init__(client, recorder)
        self._client = client
        self.topic, self.subscriber = client.topic, client.subscriber
        self.created = client.created
        self._transport, self._path, self._worker = client._transport, client._path, client._worker
        self._call("subscribe", act=client.info, told=standing)

    def __enter__(self) -> WatchedSubscriber:
        """Return the stand-in itself."""
        return self

    @property
    def position(self) -> int:
        """The last offset acknowledged, asked from the server each time."""
        return self.info().position

    @property
    def lag(self) -> int:
        """How many messages are not acknowledged yet, asked from the server each time."""
        return self.info().lag

    def info(self) -> Subscriber:
        """Return the subscriber as it is now."""
        return self._call("info", act=self._client.info, told=standing)

    def fetch(self, limit: int = 100, wait: float = 0.0, *, after: int | None = None) -> Batch:
        """Return messages after the position, or after an offset, and move nothing."""
        return self._fetched(lambda: self._client.fetch(limit, wait, after=after), limit, after)

    def _fetch(self, limit: int, wait: float, outage: Outage | None = None) -> Batch:
        return self._fetched(lambda: self._client._fetch(limit, wait, outage), limit)

    def _fetched(self, act: Callable[[], Batch], limit: int, after: int | None = None) -> Batch:
        return self._call(
            "fetch",
            act=act,
            told=lambda batch: messages(batch) | {"position": batch.position, "epoch": batch.epoch},
            limit=limit,
            offset=after,
            epoch=None if after is None else self._client._epoch,
        )

    def ack(self, message: Message | int) -> int:
        """Acknowledge a message, or an offset, with all before it; return the position then."""
        # Asked here, so that what is recorded is what is sent, even when another thread fetches at
        # this moment.
        return self._acknowledge(*self._place(message))

    def _place(self, message: Message | int) -> tuple[int, int]:
        return self._client._place(message)

    def _acknowledge(self, offset: int, epoch: int | None, outage: Outage | None = None) -> int:
        return self._call(
            "ack",
            act=lambda: self._client._acknowledge(offset, epoch, outage),
            told=lambda position: {"position": position},
            offset=offset,
            epoch=epoch,
        )

    def seek(self, to: Place, *, dry_run: bool = False) -> Subscriber:
        """Move this subscriber."""
        return self._call(
            "dry_run" if dry_run else "seek",
            act=lambda: self._client.seek(to, dry_run=dry_run),
            offset=_position(to),
        )

    def unsubscribe(self) -> None:
        """Delete the subscriber, whose positions are then left out of the check."""
        self._call("unsubscribe", act=self._client.unsubscribe)

    def consume(
        self,
        limit: int = 100,
        wait: float | None = None,
        *,
        ack_every: float = 1.0,
        patience: float | None = None,
        skip_unreadable: bool = False,
    ) -> Generator[Message, None, None]:
        """Yield message after message, by the client's own loop over the stand-in's methods."""
        return consumer.loop(self, limit, wait, ack_every, patience, skip_unreadable)


def _position(to: Place) -> int | None:
    return None if isinstance(to, datetime | str) else to
