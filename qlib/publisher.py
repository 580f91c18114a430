"""The publishing side: topics, and the messages that go into them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import count
from threading import Lock
from typing import Any, TypeVar
from uuid import uuid4

from qlib import batches
from qlib.answers import nothing
from qlib.checks import integer, name, text
from qlib.errors import InvalidRequest, OutcomeUnknown, QueueError, TopicExists, TopicNotFound
from qlib.marks import disposable, marked
from qlib.models import Batch, Reset, Subscriber, Subscribers, Topic, Topics
from qlib.places import Place, target
from qlib.reading import Stored, read
from qlib.salvage import salvaged
from qlib.transport import Transport
from qlib.values import encoder, to_json
from qlib.views import Listing

Listed = TypeVar("Listed", Topic, Subscriber)

_PAGE = 1000


class QPublisher:
    """Publishes messages and looks after topics. Threads may share one.

    `url` falls back to $QUEUE_URL, then to http://127.0.0.1:8008; `token` to $QUEUE_TOKEN, then to
    none. `timeout` in seconds bounds each call with all its retries. Every method raises the
    errors of `qlib.errors`, and no others of its own.

    A payload is any JSON, and headers are. In them a datetime, date or time becomes ISO 8601 text, a
    UUID its text, an Enum its value, a dataclass an object, a scalar of numpy a number. `default` is
    asked first about all that JSON does not know, as in `json.dumps`: it returns what stands for a
    value, or raises TypeError. Decimal, bytes, NaN and Infinity are refused unless it takes them.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        default: Callable[[Any], Any] | None = None,
    ) -> None:
        """Check the settings; nothing is sent yet. Raises InvalidRequest."""
        if default is not None and not callable(default):
            raise InvalidRequest(f"default must be a function, as in json.dumps, not {default!r}")
        self._to_json = encoder(default)
        self._transport = Transport(url, token, timeout)
        self._lock = Lock()
        self._process: int | None = None

    def __repr__(self) -> str:
        """Return the server's address."""
        return f"QPublisher({self._transport.url!r})"

    def __enter__(self) -> QPublisher:
        """Return the publisher itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections. Nothing is lost: a publish that returned is stored."""
        self._transport.close()

    def create_topic(
        self, topic: str, description: str | None = None, *, exist_ok: bool = False
    ) -> Topic:
        """Make a topic and return it.

        Raises TopicExists or InvalidRequest. With `exist_ok`, as in `pathlib`, a topic that is there
        already is returned as it is, with its own description. Without it never sent twice when it
        may have happened: after OutcomeUnknown look with `topic`.
        """
        fields = {"topic": name(topic, "a topic's name")}
        if description is not None:
            fields["description"] = text(description, "a description")
        if (self._transport.url, topic) in disposable:
            fields["description"] = marked(description)
        body = to_json(fields, "the topic")
        while True:
            try:
                return self._transport.request(
                    "POST", ("topics",), Topic.from_json, body=body, repeatable=exist_ok
                )
            except (TopicExists, OutcomeUnknown) as error:
                # Behind an unknown outcome stands the refusal of the last attempt.
                if not exist_ok or TopicExists not in (type(error), type(error.__cause__)):
                    raise
            with suppress(TopicNotFound):  # deleted meanwhile: then it can be made
                return self.topic(topic)

    def topics(self) -> list[Topic]:
        """Return all topics in name order; a notebook shows them as a table."""
        return self._listed(("topics",), Topic, lambda it: read(Topics, it).topics)

    def topic(self, name: str) -> Topic:
        """Return one topic as it is now. Raises TopicNotFound."""
        return self._transport.request("GET", ("topics", name), Topic.from_json)

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its messages and subscribers, for good.

        Raises TopicNotFound. Never sent twice when it may have happened.
        """
        self._transport.request("DELETE", ("topics", name), nothing)

    def subscribers(self, topic: str) -> list[Subscriber]:
        """Return all subscribers of a topic in name order, as `topics` does. Raises TopicNotFound."""
        path = ("topics", topic, "subscribers")
        return self._listed(path, Subscriber, lambda it: read(Subscribers, it).subscribers)

    def browse(self, topic: str, offset: int | None = None, limit: int = 100) -> Batch:
        """Return up to `limit` messages from `offset` on, without a subscriber.

        Without an offset it starts at the first message still kept. Fewer messages may come when
        they are large, or when one behind them cannot be read. Raises TopicNotFound,
        OffsetOutOfRange, and UnreadableMessage when the first one cannot be read.
        """
        query = {"limit": integer(limit, "limit is an integer")}
        if offset is not None:
            query["offset"] = integer(offset, "an offset is an integer")
        path = ("topics", topic, "messages")
        return self._transport.request("GET", path, Batch.from_json, query=query, salvage=salvaged)

    def publish(
        self,
        topic: str,
        payload: Any,
        key: str | None = None,
        headers: dict[str, Any] | None = None,
        *,
        sequence: int | None = None,
    ) -> int:
        """Store one message and return its offset.

        The message is numbered, so that retries store it once. After OutcomeUnknown it may be
        stored; publishing it again with `sequence` set to the error's, by the same publisher, is
        safe. Raises InvalidRequest when the payload is not JSON, TopicNotFound, MessageTooLarge or
        SequenceConflict.
        """
        if sequence is not None:
            sequence = integer(sequence, "sequence is an integer")
        columns = batches.columns(
            [payload], None if key is None else [key], None if headers is None else [headers]
        )
        (batch,) = batches.split(batches.rows(columns, self._to_json))
        return self._store(topic, list(columns), batch, sequence)[0]

    def publish_many(
        self,
        topic: str,
        payloads: Iterable[Any],
        keys: Iterable[str | None] | None = None,
        headers: Iterable[dict[str, Any] | None] | None = None,
    ) -> Sequence[int]:
        """Store many messages and return their offsets, one a row, in order.

        The offsets are a `range` when no other publisher came between. The rows are read as they
        are sent, at most one ahead, in batches of at most 1,000 messages and about 4 MiB; lists go
        faster than other iterables. A batch is stored whole or not at all, and once; the next one
        waits for its answer. When one fails, the error's `published` holds the offsets of those
        before it, and nothing after it was sent; an OutcomeUnknown leaves that one batch in doubt.
        An iterable's own exception passes through, with a note of what is stored: the batches sent
        before, and no row of the one that it broke off. Raises what `publish` does, and
        InvalidRequest when the columns differ in length, or for a table like a DataFrame:
        `df.to_dict("records")` are its rows.
        """
        columns = batches.columns(payloads, keys, headers)
        stored: list[range] = []
        try:
            for batch in batches.split(batches.rows(columns, self._to_json)):
                stored.append(self._store(topic, list(columns), batch))
        except QueueError as error:
            error.published = batches.joined(stored)
            raise
        except BaseException as error:
            error.add_note(f"publish_many had stored {batches.told(stored)}")
            raise
        return batches.joined(stored)

    def reset_topic(self, topic: str, to: Place, *, dry_run: bool = False) -> Reset:
        """Move every subscriber of a topic at once, and return where to and how many.

        `to` is a position (0 replays all), "earliest" or "latest", or a time with its zone: the
        next message is then the first one published at or after it. `dry_run` only tells what would happen. Raises
        TopicNotFound, OffsetOutOfRange or InvalidRequest. Never sent twice when it may have
        happened. Messages are delivered again, or skipped; acks of earlier fetches are refused.
        """
        fields = target(to, "a reset") | ({"dry_run": True} if dry_run else {})
        body = to_json(fields, "the reset")
        return self._transport.request(
            "POST", ("topics", topic, "reset"), Reset.from_json, body=body
        )

    def _listed(
        self, path: tuple[str, ...], kind: type[Listed], page_of: Callable[[bytes], list[Listed]]
    ) -> list[Listed]:
        found = Listing[Listed](kind, ())
        word = kind.__name__.lower()
        while True:
            query = {"limit": _PAGE} | ({"after": getattr(found[-1], word)} if found else {})
            page = self._transport.request("GET", path, page_of, query=query)
            found += page
            if len(page) < _PAGE:
                return found

    def _store(
        self, topic: str, names: list[str], batch: batches.Encoded, sequence: int | None = None
    ) -> range:
        def offsets(answer: bytes) -> range:
            told = read(Stored, answer)
            stored = range(told.first_offset, told.last_offset + 1)
            if len(stored) != len(batch):
                raise ValueError(f"{len(stored)} offsets for {len(batch)} messages")
            return stored

        producer, number = self._number(sequence)
        numbered = {
            "producer": to_json(producer, "producer"),
            "sequence": to_json(number, "sequence"),
        }
        path = ("topics", topic, "messages")
        body = batches.body(names, batch, numbered)
        try:
            return self._transport.request("POST", path, offsets, body=body, repeatable=True)
        except QueueError as error:
            if isinstance(error, OutcomeUnknown):
                error.producer, error.sequence = producer, number
            if batch.first:  # the server counts within the batch
                error.detail += f"; message 0 of this batch is payloads[{batch.first}]"
                error.args = (error.detail,)
            raise

    def _number(self, sequence: int | None) -> tuple[str, int]:
        with self._lock:
            if self._process != os.getpid():
                # A forked child goes on counting where its parent does: under the parent's name
                # its messages would pass for repetitions, and be dropped.
                self._process, self._producer, self._sequence = os.getpid(), uuid4().hex, count(1)
            return self._producer, next(self._sequence) if sequence is None else sequence
