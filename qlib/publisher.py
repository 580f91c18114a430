"""The publishing side: topics, and the messages that go into them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from qlib import batches
from qlib.answers import nothing
from qlib.buffered import Buffered
from qlib.checks import integer, name, text
from qlib.errors import InvalidRequest, OutcomeUnknown, TopicExists, TopicNotFound
from qlib.marks import disposable, marked
from qlib.models import Batch, Reset, Subscriber, Subscribers, Topic, Topics
from qlib.numbered import Numbered
from qlib.places import Place, target
from qlib.reading import read
from qlib.salvage import salvaged
from qlib.sending import store_in_order
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
        self._numbered = Numbered(self._transport)

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
        return self._numbered.store(topic, list(columns), batch, sequence)[0]

    def publish_many(
        self,
        topic: str,
        payloads: Iterable[Any],
        keys: Iterable[str | None] | None = None,
        headers: Iterable[dict[str, Any] | None] | None = None,
    ) -> Sequence[int]:
        """Store many messages and return their offsets, one a row, in order.

        The offsets are a `range` when no other publisher came between. The rows go in batches of at
        most 1,000 messages and about 4 MiB, and are read as they are sent: while a batch is under
        way, those of the next one and the first behind it. Lists go faster than other iterables.

        A batch is stored whole or not at all, and once; the next one is sent after its answer. When
        one fails, the error's `published` holds the offsets of those before it, and nothing after it
        was sent; an OutcomeUnknown leaves that one batch in doubt. An iterable's own exception
        passes through, with a note of what is stored: the batches sent before, and no row of the one
        that it broke off; but when the batch under way fails, too, its error is raised. Ctrl-C does
        not wait for the batch under way: it may be stored within `timeout` seconds, and the note
        says so. Raises what `publish` does, and InvalidRequest when the columns differ in length, or
        for a table like a DataFrame: `df.to_dict("records")` are its rows.
        """
        columns = batches.columns(payloads, keys, headers)
        rows = batches.rows(columns, self._to_json)
        return store_in_order(rows, partial(self._numbered.store, topic, list(columns)))

    def buffered(
        self, topic: str, *, linger: float = 0.005, batch: int = 1000, pending: int = 10_000
    ) -> Buffered:
        """Return a buffer for single messages to one topic: its `publish` returns at once.

        `with publisher.buffered("orders") as out: out.publish(payload)` sends in the background, in
        order: a batch at a time, of at most `batch` messages (10,000) and 4 MiB, `linger` seconds
        after its first message or as soon as it is full, and after the answer to the one before.
        `pending` messages, or about 16 MiB, wait for answers at most; then `publish` waits as well.

        Until its handle tells the offset, a message is not stored: a process that is killed loses
        what is pending. Nothing is lost at the end of the block, however it is left, or at the end
        of the interpreter or of a process of `multiprocessing`: what was accepted is sent before.
        Batches are numbered, so that retries store them once; what a failed batch means is said at
        its handles and by `flush`, `close` and the end of the block. To keep the order, nothing is
        sent after it: what is pending then, and every further `publish`, raises NotSent. Make
        another buffer to go on. Raises InvalidRequest.
        """
        return Buffered(topic, self._to_json, self._numbered.store, linger, batch, pending)

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
