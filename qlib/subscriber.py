"""The reading side: one durable subscriber of one topic."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from time import monotonic
from typing import Any

from qlib import consumer
from qlib.answers import nothing
from qlib.attempts import Outage
from qlib.checks import integer, name, seconds, text
from qlib.errors import UnreadableMessage
from qlib.models import Batch, Message, Subscriber
from qlib.others import Others
from qlib.places import Place, beginning, fetched_place, target
from qlib.reading import Moved, read
from qlib.salvage import salvaged
from qlib.settings import settings
from qlib.transport import Reply, Transport
from qlib.values import to_json
from qlib.workers import Workers

_LONGEST_WAIT = 60.0


class QSubscriber(Workers):
    """Reads a topic under a durable name, at its own position.

    Subscribes at once: a new name begins at `start`, which is "latest", "earliest", a position, or
    a time with its zone; a name that is there already stays where it is, and `start` says nothing.
    Without a name the server makes one up. `topic` and `subscriber` hold the two names. `created`
    is True when it is new, so that `start` counted, and False when it was there; None when nobody
    knows, since the answer to a first attempt was lost.

    One reader at a time fetches or consumes: two under one name get the same messages, and an ack of
    one also passes over what the other has not got. When the server sees another one, a warning says
    so, once, to the logger "qlib" (best effort: servers do not tell each other). Threads that share
    one QSubscriber are one reader.

    Any number of workers share the messages: each leases some for itself, by `work` or `lease`.
    `worker` is what people see as its name. Of a new subscriber a message is a dead letter after
    `max_attempts` (5). One that is given back is due again after `backoff` seconds (1), twice as long
    with each further attempt, up to `backoff_cap` (3600), less up to a half by chance. When
    `ordered`, messages of one key are worked on one after the other. One that is there keeps its
    settings: `configure` changes them.

    `url`, `token` and `timeout` are those of QPublisher. Every method raises the errors of
    `qlib.errors`; TopicNotFound and SubscriberNotFound come from any of them.
    """

    def __init__(
        self,
        topic: str,
        subscriber: str | None = None,
        start: Place = "latest",
        *,
        worker: str | None = None,
        max_attempts: int | None = None,
        backoff: float | None = None,
        backoff_cap: float | None = None,
        ordered: bool | None = None,
        url: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Subscribe. Raises InvalidRequest, TopicNotFound or OffsetOutOfRange.

        After OutcomeUnknown without a name, a subscriber that nobody reads may be left over.
        """
        fields: dict[str, Any] = (
            {} if subscriber is None else {"subscriber": name(subscriber, "a subscriber's name")}
        )
        fields |= settings(max_attempts, backoff, backoff_cap, ordered)
        body = to_json(fields | {"start": beginning(start)}, "the subscription")
        self._worker = None if worker is None else text(worker, "worker")
        self._transport = Transport(url, token, timeout, named=True)
        subscribed = self._transport.request(
            "POST",
            ("topics", topic, "subscribers"),
            Subscriber.from_json,
            body=body,
            repeatable=subscriber is not None,
            heard=self._subscribed,
        )
        self.topic = topic
        self.subscriber = subscribed.subscriber
        self._path = ("topics", topic, "subscribers", self.subscriber)
        self._epoch = subscribed.epoch
        self._others = Others(topic, self.subscriber)

    def _subscribed(self, reply: Reply) -> None:
        # After a lost answer, the first attempt may be what made it.
        self.created = True if reply.status == 201 else None if reply.doubt else False

    def __repr__(self) -> str:
        """Return the topic's and the subscriber's names."""
        return f"QSubscriber({self.topic!r}, {self.subscriber!r})"

    def __enter__(self) -> QSubscriber:
        """Return the subscriber itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections; the subscriber stays."""
        self.close()

    def close(self) -> None:
        """Close the connections. The subscriber stays, with its position."""
        self._transport.close()

    @property
    def position(self) -> int:
        """The last offset acknowledged, asked from the server each time."""
        return self.info().position

    @property
    def lag(self) -> int:
        """How many messages are not acknowledged yet, asked from the server each time."""
        return self.info().lag

    def fetch(self, limit: int = 100, wait: float = 0.0, *, after: int | None = None) -> Batch:
        """Return up to `limit` messages after the position, and move nothing.

        Waits up to `wait` seconds (at most 60) for the first one, and not at all when there are
        some; the batch is empty when none came. Fewer than `limit` may come when they are large, or
        when one behind them cannot be read. `after` reads ahead, from the offset after it; it
        raises StaleEpoch when the subscriber was reset or sought since the newest fetch without it:
        then fetch so again. The same messages come again until they are acknowledged. Raises
        InvalidRequest; OffsetOutOfRange when messages that were not acknowledged are no longer
        kept: seek to go on; and UnreadableMessage when the first one cannot be read.
        """
        rule = "wait must lie between 0 and 60 seconds"
        wait = seconds(wait, rule, lambda s: 0 <= s <= _LONGEST_WAIT)
        return self._fetch(limit, wait, after=after)

    def _fetch(
        self, limit: int, wait: float, outage: Outage | None = None, after: int | None = None
    ) -> Batch:
        query: dict[str, int] = {"limit": integer(limit, "limit is an integer")}
        if after is not None:
            query |= {"after": integer(after, "after is an offset"), "epoch": self._epoch}
        try:
            batch = self._transport.request(
                "GET",
                (*self._path, "messages"),
                Batch.from_json,
                query=query,
                wait=wait,
                outage=outage,
                salvage=salvaged,
                heard=partial(self._heard, monotonic()),
            )
        except UnreadableMessage as error:
            self._seen(error.epoch)
            raise
        self._seen(batch.epoch)
        return batch

    def _heard(self, sent: float, reply: Reply) -> None:
        self._others.heard(sent, self._transport.client, reply)

    def _seen(self, epoch: int | None) -> None:
        if epoch is not None:
            self._epoch = epoch

    def ack(self, message: Message | int) -> int:
        """Acknowledge a message, or an offset, with all before it; return the position then.

        A message carries the epoch of its own fetch; one that was browsed, or fetched by another
        subscriber, is refused with InvalidRequest. A bare offset is taken to belong to the newest
        fetch, or before any to the subscription: so acknowledge messages where a reset may come.
        Acknowledging less than the position changes nothing. Raises StaleEpoch when the subscriber
        was reset or sought since that fetch, or OffsetOutOfRange beyond the head.
        After OutcomeUnknown it may be done; doing it again is safe.
        """
        return self._acknowledge(*self._place(message))

    def _place(self, message: Message | int) -> tuple[int, int]:
        """Return the offset and the epoch that an ack carries; InvalidRequest if it is not ours."""
        return fetched_place(message, self.topic, self.subscriber, self._epoch)

    def _acknowledge(self, offset: int, epoch: int | None, outage: Outage | None = None) -> int:
        fields = {"offset": offset, "epoch": epoch}
        return self._transport.request(
            "POST",
            (*self._path, "ack"),
            _position,
            body=to_json(fields, "the ack"),
            repeatable=True,
            outage=outage,
        )

    def seek(self, to: Place, *, dry_run: bool = False) -> Subscriber:
        """Move this subscriber, and return it as it is then.

        `to` is a position (0 replays all), "earliest" or "latest", or a time with its zone: the
        next message is then the first one published at or after it. `dry_run` only tells what would happen. Raises
        OffsetOutOfRange or InvalidRequest. Never sent twice when it may have happened. Messages are
        delivered again, or skipped; acks of earlier fetches are refused.
        """
        fields = target(to, "a seek") | ({"dry_run": True} if dry_run else {})
        body = to_json(fields, "the seek")
        return self._transport.request(
            "POST", (*self._path, "seek"), Subscriber.from_json, body=body
        )

    def unsubscribe(self) -> None:
        """Delete the subscriber and its position, for good.

        Never sent twice when it may have happened.
        """
        self._transport.request("DELETE", self._path, nothing)

    def consume(
        self,
        limit: int = 100,
        wait: float | None = None,
        *,
        ack_every: float = 1.0,
        patience: float | None = None,
        skip_unreadable: bool = False,
    ) -> Generator[Message, None, None]:
        """Yield message after message, and acknowledge those that the loop got through.

        A message is done when the loop asks for the next one. What is done is acknowledged then, when
        `ack_every` seconds have passed since the last ack or the batch of up to `limit` came; at the
        end of the batch; and when the loop is left, by whatever way: the message at hand is then not
        acknowledged. So a process that is killed repeats the work of `ack_every` seconds, and the
        message at hand. At 0 each message has its ack. Ends when nothing came for `wait` seconds, at
        0 with the backlog; goes on for ever when it is None. After a reset or seek it goes on from
        the new position. A message may come again, after a crash or when its ack failed, but none is
        left out.

        An outage of the server or the database (Unavailable, or an ack of unknown outcome) is sat
        through and told once, to the logger "qlib". It is given up, with its error, after
        `patience` seconds; by default never, or after `wait` seconds when that is given. Any other
        error ends the loop. A message that cannot be read does so, as UnreadableMessage, when those
        before it are done; with `skip_unreadable` it is acknowledged instead, and the log says so.
        An ack that fails while the loop is left raises nothing, and is not waited for in an outage.
        """
        return consumer.loop(self, limit, wait, ack_every, patience, skip_unreadable)


def _position(answer: bytes) -> int:
    return read(Moved, answer).position
