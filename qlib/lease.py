"""A lease: messages that one worker has for itself until an instant, and what it does with them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, TypeAlias, overload

from qlib.attempts import Outage
from qlib.checks import integer, seconds
from qlib.errors import InvalidRequest, QueueError
from qlib.leased import Acked, LeasedMessage, Nacked, leased_messages
from qlib.models import Message, Subscriber
from qlib.reading import Leased
from qlib.views import table
from qlib.words import words

Which: TypeAlias = Message | int | Iterable[Message | int]

_LEAVING_SECONDS = 2.0
_ROWS_SHOWN = 10
_RULE = "these are messages of the lease, or their offsets"

_log = logging.getLogger("qlib")


class Desk(Protocol):
    """What leases need of their subscriber."""

    @property
    def worker(self) -> str:
        """Who leases."""

    def info(self) -> Subscriber:
        """Return the subscriber as it is now."""

    def _lease(
        self, limit: int, seconds: float, wait: float, outage: Outage | None = None
    ) -> Leased: ...

    def _ack_lease(
        self, lease: str, offsets: Sequence[int] | None, outage: Outage | None = None
    ) -> Acked: ...

    def _nack(self, lease: str, fields: dict[str, Any], outage: Outage | None = None) -> Nacked: ...

    def _extend(self, lease: str, seconds: float, outage: Outage | None = None) -> datetime: ...


class Lease(Sequence[LeasedMessage]):
    """Messages that nobody else gets until it expires; `QSubscriber.lease` makes it.

    A sequence of LeasedMessage in the order of their offsets; empty, with `id` None, when there was
    nothing to do. `expires_at` is an instant by the clock of the queue's database; what is not
    acknowledged by then comes to the next worker, as one attempt more. So a message is worked on at
    least once, and twice when a worker is slower than its lease: `extend` it meanwhile, and take a
    LeaseExpired from `ack` for what it is: another has it, or had.

    As a context manager it gives back at the end what was not handed out, by iteration or by index:
    due at once, and as if it had never been leased. When an Exception leaves the block, what was
    handed out and is neither acknowledged nor given back is given back with that error's words.
    Else it stays leased until it expires: nothing is acknowledged by itself. What cannot be given
    back now comes when the lease expires; the log of "qlib" says so, and nothing is raised.
    """

    def __init__(self, desk: Desk, found: Leased, seconds: float) -> None:
        """Hold what was leased for so many seconds."""
        self.id, self.expires_at = found.lease, found.expires_at
        self.topic, self.subscriber, self.worker = found.topic, found.subscriber, desk.worker
        self._desk, self._seconds = desk, seconds
        self._messages = leased_messages(found)
        self._offsets = [message.offset for message in self._messages]
        self._handed_out: set[int] = set()
        self._settled: set[int] = set()

    def __len__(self) -> int:
        """Return how many messages were leased."""
        return len(self._messages)

    @overload
    def __getitem__(self, index: int) -> LeasedMessage: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[LeasedMessage, ...]: ...

    def __getitem__(self, index: int | slice) -> LeasedMessage | tuple[LeasedMessage, ...]:
        """Hand out a message, or some."""
        found = self._messages[index]
        self._handed_out.update(m.offset for m in (found if isinstance(found, tuple) else (found,)))
        return found

    def __iter__(self) -> Iterator[LeasedMessage]:
        """Hand out message after message."""
        for message in self._messages:
            self._handed_out.add(message.offset)
            yield message

    def ack(self, messages: Which | None = None) -> Acked:
        """Say that messages are done, by default all, and return where the subscriber is then.

        `messages` are one or several of the lease, or their offsets. Done again it does nothing,
        also after the lease has expired; so it is repeated when its answer is lost. Of an empty
        lease nothing is done. Raises LeaseExpired, KeyOrder, or InvalidRequest for what it never
        held; then nothing was done. After OutcomeUnknown it may be; doing it again is safe.
        """
        offsets = self._which(messages)
        if self.id is None or offsets == []:
            now = self._desk.info()
            return Acked(0, now.position, now.epoch, now.head, now.lag)
        acked = self._desk._ack_lease(self.id, offsets)
        self._settle(offsets)
        return acked

    def nack(
        self,
        messages: Which | None = None,
        delay: float | None = None,
        error: str | BaseException | None = None,
        untried: bool = False,
    ) -> Nacked:
        """Give messages back, by default all that are left; return how many, and how many are dead.

        They are due again after `delay` seconds, by default after the subscriber's backoff, as one
        attempt more; after the last attempt they are dead letters, which keep the `error`, a text
        or an exception. `untried` ones are due at once, as if they had not been leased, and never
        dead. With order by key, what the lease holds of the same keys behind them goes back, too,
        untried. What was settled before is not counted: after a lost answer it is asked again, and
        the count may leave out what the first time did. Raises LeaseExpired, KeyOrder or
        InvalidRequest; then nothing was done.
        """
        offsets = self._which(messages)
        fields: dict[str, Any] = {"offsets": offsets, "untried": untried}
        if delay is not None:
            rule = "delay is a number of seconds from 0 on"
            fields["delay_seconds"] = seconds(delay, rule, lambda s: s >= 0)
        if error is not None:
            fields["error"] = words(error) if isinstance(error, BaseException) else error
        return self._give_back(fields)

    def extend(self, seconds: float | None = None) -> datetime:
        """Hold what is left for so many seconds from now on, and return until when that is.

        By default for as long as it was leased. It never expires earlier than it did. Raises
        LeaseExpired, also when nothing is left of it, or InvalidRequest.
        """
        if self.id is None:
            raise InvalidRequest("nothing is leased here, so there is nothing to extend")
        self.expires_at = self._desk._extend(self.id, lasting(seconds, self._seconds))
        return self.expires_at

    def __enter__(self) -> Lease:
        """Return the lease itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give back what was not handed out, and what an Exception has broken off."""
        left = [offset for offset in self._offsets if offset not in self._settled]
        if isinstance(error, Exception):
            begun = [offset for offset in left if offset in self._handed_out]
            self._return({"offsets": begun, "error": words(error)})
        untried = [offset for offset in left if offset not in self._handed_out]
        self._return({"offsets": untried, "untried": True})

    def _return(self, fields: dict[str, Any]) -> None:
        """Give back in passing: an exception may be under way, and they come again in any case."""
        try:
            self._give_back(fields, Outage(_LEAVING_SECONDS, since=monotonic()))
        except QueueError as failure:
            told = "offsets %s of %r come when the lease expires, and were not given back now: %s"
            _log.warning(told, fields["offsets"], self, failure)

    def _give_back(self, fields: dict[str, Any], outage: Outage | None = None) -> Nacked:
        offsets = fields["offsets"]
        if self.id is None or offsets == []:
            return Nacked(0, 0)
        told = {name: it for name, it in fields.items() if it is not None}
        nacked = self._desk._nack(self.id, told, outage)
        self._settle(offsets)
        return nacked

    def _which(self, messages: Which | None) -> list[int] | None:
        """Return the offsets that are meant; None for all."""
        if messages is None:
            return None
        several = [messages] if isinstance(messages, Message | int) else messages
        if not isinstance(several, Iterable) or isinstance(several, str | bytes):
            raise InvalidRequest(f"{_RULE}, not {type(messages).__name__}")
        return [self._offset(message) for message in several]

    def _offset(self, message: Message | int) -> int:
        if not isinstance(message, Message):
            return integer(message, _RULE)
        if not isinstance(message, LeasedMessage) or message.lease != self.id:
            raise InvalidRequest(f"offset {message.offset} is not a message of this lease")
        return message.offset

    def _settle(self, offsets: list[int] | None) -> None:
        self._settled.update(self._offsets if offsets is None else offsets)

    def _caption(self) -> str:
        span = f", offsets {self._offsets[0]} to {self._offsets[-1]}" if self._offsets else ""
        return f"Lease of {len(self)} from {self.topic}{span}"

    def __repr__(self) -> str:
        """Return how many messages there are, and which."""
        return f"<{self._caption()}>"

    def _repr_html_(self) -> str:
        names = ["offset", "key", "attempt", "payload"]
        return table(self._caption(), names, self._messages, _ROWS_SHOWN)


def lasting(length: float | None, usual: float) -> float:
    """Return how long a lease lasts; InvalidRequest for what is no number of seconds."""
    rule = "seconds is a number above 0"
    return usual if length is None else seconds(length, rule, lambda s: s > 0)
