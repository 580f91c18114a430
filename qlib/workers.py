"""What several workers do that share a subscriber's messages: the other half of QSubscriber."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from qlib import work
from qlib.attempts import Outage
from qlib.checks import integer
from qlib.checks import seconds as within
from qlib.errors import UnreadableMessage
from qlib.lease import Lease, lasting
from qlib.leased import Acked, DeadLetter, DeadLetters, LeasedMessage, LeaseInfo, LeaseInfos, Nacked
from qlib.models import Message, Subscriber
from qlib.reading import Extended, Leased, Redriven, Removed, read
from qlib.salvage import salvaged_lease
from qlib.settings import settings
from qlib.stopping import Event
from qlib.transport import Transport
from qlib.values import to_json
from qlib.views import Listing

Offsets: TypeAlias = int | Message | DeadLetter | Iterable[int | Message | DeadLetter]

_LONGEST_WAIT = 60.0
_OFFSETS = "offsets are offsets, or dead letters"
_AFTER = "after is an offset"
_LONGEST_NAME = 200


class Workers:
    """Leases, and what became of them."""

    topic: str
    subscriber: str
    _transport: Transport
    _path: tuple[str, ...]
    _worker: str | None

    def info(self) -> Subscriber:
        """Return the subscriber as it is now."""
        return self._transport.request("GET", self._path, Subscriber.from_json)

    @property
    def worker(self) -> str:
        """What people see as the holder of a lease: by default host and process."""
        return self._worker or f"{socket.gethostname()}-{os.getpid()}"[-_LONGEST_NAME:]

    def lease(self, limit: int = 1, seconds: float = 30.0, wait: float = 0.0) -> Lease:
        """Return up to `limit` messages that no other worker gets for so many `seconds`.

        First come those that were given back, or not acknowledged in time. Waits up to `wait`
        seconds (at most 60) for the first one; the lease is empty, and false, when none came. A
        message that has expired comes alone at its last attempt, for it may be what kills workers.
        Raises InvalidRequest; OffsetOutOfRange when the next message is no longer kept; and
        UnreadableMessage when the first one cannot be read: it comes again, and ends as a dead letter.

        A lease of unknown outcome is not asked for again: after OutcomeUnknown messages may be out,
        for nobody, until they expire. None is lost by that; they come again as one attempt more, as with
        the visibility timeout of Amazon SQS and the acquisition lock of Kafka's share groups (KIP-932).
        """
        rule = "wait must lie between 0 and 60 seconds"
        wait = within(wait, rule, lambda s: 0 <= s <= _LONGEST_WAIT)
        limit, lasts = integer(limit, "limit is an integer"), lasting(seconds, 30.0)
        found = self._lease(limit, lasts, wait)
        if found.unreadable and not found.messages:
            raise unreadable(found.unreadable)
        return Lease(self, found, lasts)

    def work(
        self,
        handler: Callable[[LeasedMessage], object],
        threads: int = 1,
        limit: int = 10,
        seconds: float = 30.0,
        wait: float | None = None,
        *,
        handler_seconds: float | None = None,
        stop: Event | None = None,
        patience: float | None = None,
    ) -> None:
        """Be one of several workers: hand its share of the messages to `handler`, until stopped.

        A message is done when the handler returns, and acknowledged at once, together with what else
        is done by then. When it raises an Exception, the message is given back with the error's
        words, and the log of "qlib" has the traceback; it comes again after the backoff, and is a
        dead letter after the last attempt; so is one that cannot be read. A coroutine or generator
        that is returned counts as raised, as nobody runs it. The handler may see a message again,
        after a crash or when it was slower than its lease: its effect must bear that.

        `threads` handlers run side by side. When one has nothing to do, up to `limit` messages are
        leased for `seconds`, and are extended after a third of that as long as they are worked on
        (as a client of Amazon SQS moves the visibility timeout, and one of beanstalkd touches a
        job). So what is leased waits for its turn here while other workers may be idle: lease few
        when a message takes long. When `ordered` (as it is when work begins), messages of a key come
        one after the other, and not behind one that has failed.

        Ends when nothing was due for `wait` seconds, at 0 when nothing is; goes on for ever when it
        is None. It stops when `stop`, as a threading.Event, is set, and in the main thread at Ctrl-C
        and SIGTERM: leases nothing more, gives back what is not begun, untried, lets the handlers
        end, acknowledges that, and returns. A second Ctrl-C ends at once; what was leased comes again when it
        expires. After `handler_seconds` (by default never) a handler is too slow: its lease expires, its
        result comes too late, the log says so, no stop waits for it; its thread is free when it returns.

        Outages are sat through as in `consume`, with its `patience`. A lease whose answer was lost
        is nobody's until it expires. Any other error ends the work when the handlers have ended;
        SystemExit in a handler does so, too. An ack that comes after the lease has expired is told
        to the log, and work goes on. Raises InvalidRequest.
        """
        work.run(self, handler, threads, limit, seconds, wait, handler_seconds, stop, patience)

    def dead(self, after: int | None = None, limit: int = 100) -> list[DeadLetter]:
        """Return the first `limit` dead letters behind the offset `after`; of large ones, fewer."""
        query = _page(limit) if after is None else {**_page(limit), "after": integer(after, _AFTER)}
        path = (*self._path, "dead")
        found = self._transport.request("GET", path, lambda it: read(DeadLetters, it), query=query)
        return Listing(DeadLetter, found.dead)

    def redrive(self, offsets: Offsets | None = None, limit: int = 1000) -> int:
        """Give dead letters to the workers again, by default the first `limit`; return how many.

        `offsets` are one or several, or dead letters. They are due at once, in the order of their
        offsets, with their attempts counted anew; they come to this subscriber alone, and regardless
        of order by key. Never sent twice when it may have happened.
        """
        if (chosen := several(offsets)) == []:
            return 0
        body = _chosen(chosen, limit)
        path = (*self._path, "dead", "redrive")
        return self._transport.request("POST", path, _redriven, body=body)

    def remove_dead(self, offsets: Offsets | None = None, limit: int = 1000) -> int:
        """Remove dead letters for good, by default the first `limit`, and return how many.

        Never sent twice when it may have happened.
        """
        if (chosen := several(offsets)) == []:
            return 0
        body = _chosen(chosen, limit)
        return self._transport.request("DELETE", (*self._path, "dead"), _removed, body=body)

    def leases(self, after: str | None = None, limit: int = 100) -> list[LeaseInfo]:
        """Return the first `limit` leases that are out behind the number `after`, as made."""
        query = _page(limit) if after is None else {**_page(limit), "after": after}
        path = (*self._path, "leases")
        found = self._transport.request("GET", path, lambda it: read(LeaseInfos, it), query=query)
        return Listing(LeaseInfo, found.leases)

    def configure(
        self,
        *,
        max_attempts: int | None = None,
        backoff: float | None = None,
        backoff_cap: float | None = None,
        ordered: bool | None = None,
    ) -> Subscriber:
        """Change the settings that are given, and return the subscriber as it is then.

        They are those of QSubscriber, and count from the next nack or expiry on. Raises
        InvalidRequest; LeasesOut when `ordered` changes while any message is leased, delayed or
        waits for another one of its key: a seek to the position makes them free.
        """
        return self._configure(settings(max_attempts, backoff, backoff_cap, ordered))

    def _configure(self, fields: dict[str, Any]) -> Subscriber:
        body = to_json(fields, "the settings")
        return self._transport.request(
            "PATCH", self._path, Subscriber.from_json, body=body, repeatable=True
        )

    def _lease(
        self, limit: int, seconds: float, wait: float, outage: Outage | None = None
    ) -> Leased:
        fields = {"worker": self.worker, "limit": limit, "lease_seconds": seconds}
        return self._transport.request(
            "POST",
            (*self._path, "leases"),
            lambda it: read(Leased, it),
            body=to_json(fields, "the lease"),
            wait=wait,
            outage=outage,
            salvage=salvaged_lease,
        )

    def _ack_lease(
        self, lease: str, offsets: Sequence[int] | None, outage: Outage | None = None
    ) -> Acked:
        body = to_json({} if offsets is None else {"offsets": offsets}, "the ack")
        path = (*self._path, "leases", lease, "ack")
        return self._transport.request(
            "POST", path, Acked.from_json, body=body, repeatable=True, outage=outage
        )

    def _nack(self, lease: str, fields: dict[str, Any], outage: Outage | None = None) -> Nacked:
        path = (*self._path, "leases", lease, "nack")
        body = to_json(fields, "what is given back")
        return self._transport.request(
            "POST", path, Nacked.from_json, body=body, repeatable=True, outage=outage
        )

    def _extend(self, lease: str, seconds: float, outage: Outage | None = None) -> datetime:
        path = (*self._path, "leases", lease, "extend")
        body = to_json({"lease_seconds": seconds}, "the extension")
        return self._transport.request(
            "POST", path, _expires_at, body=body, repeatable=True, outage=outage
        )


def unreadable(it: tuple[int, str]) -> UnreadableMessage:
    """Return the error of a leased message that cannot be read."""
    error = UnreadableMessage("offset {}: {}".format(*it))
    error.offset = it[0]
    return error


def _page(limit: int) -> dict[str, Any]:
    return {"limit": integer(limit, "limit is an integer")}


def several(offsets: Offsets | None) -> list[int] | None:
    """Return the offsets that are meant; None for the first ones, whichever they are."""
    if offsets is None:
        return None
    each = offsets if isinstance(offsets, Iterable) else [offsets]
    return [
        it.offset if isinstance(it, Message | DeadLetter) else integer(it, _OFFSETS) for it in each
    ]


def _chosen(offsets: list[int] | None, limit: int) -> bytes:
    fields: dict[str, Any] = _page(limit)
    if offsets is not None:
        fields["offsets"] = offsets
    return to_json(fields, "what is chosen")


def _redriven(answer: bytes) -> int:
    return read(Redriven, answer).redriven


def _removed(answer: bytes) -> int:
    return read(Removed, answer).removed


def _expires_at(answer: bytes) -> datetime:
    return read(Extended, answer).expires_at
