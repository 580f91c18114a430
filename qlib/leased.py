"""What the queue answers to workers: leased messages, what became of them, and who has what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from qlib.models import Message, Value
from qlib.reading import Leased, Moment


@dataclass(frozen=True, init=False, repr=False, eq=False, match_args=False)
class LeasedMessage(Message, frozen=True):
    """A message that a worker has for itself until its lease expires.

    `attempt` is how often it has been leased since the last reset or seek, from 1 on, and `lease` the
    id of its lease. It has no `epoch`: a lease is void by itself after a reset or seek.
    """

    attempt: int = 1
    lease: str = ""
    _untold: ClassVar = Message._untold | {"lease"}


@dataclass(frozen=True, init=False, repr=False, eq=False, match_args=False)
class Acked(Value, frozen=True):
    """How many messages an ack of a lease has settled, and where the subscriber is then.

    `acked` leaves out what was done before. `position` moves over what is done or dead in a row, so
    it stays where an earlier message is not; when workers acknowledge at the same moment it may trail
    until the next lease or ack, and never leads. The rest is as in `Subscriber`.
    """

    acked: int
    position: int
    epoch: int
    head: int
    lag: int
    _untold: ClassVar = frozenset({"epoch"})


@dataclass(frozen=True, init=False, repr=False, eq=False, match_args=False)
class Nacked(Value, frozen=True):
    """How many messages were given back for another attempt, and how many are dead letters now."""

    nacked: int
    dead: int


@dataclass(frozen=True, init=False, repr=False, eq=False, match_args=False)
class LeaseInfo(Value, frozen=True):
    """A lease that is out, for people to see: which `worker` has which `offsets`, and until when.

    `lease` is its number, with which nothing can be done. `attempt` is the highest among its
    messages.
    """

    lease: str
    worker: str | None
    offsets: list[int]
    attempt: int
    leased_at: Moment
    expires_at: Moment
    _untold: ClassVar = frozenset({"lease", "leased_at", "expires_at"})
    _noun: ClassVar = "lease"


@dataclass(frozen=True, init=False, repr=False, eq=False, match_args=False)
class DeadLetter(Value, frozen=True):
    """A message that the subscriber has given up, with a copy of what it was.

    It was leased `attempts` times. `reason` says how the last one ended: "nacked", or "expired";
    `error` is the last one that a worker gave, and `worker` who had it last, if they told.
    """

    offset: int
    payload: Any
    attempts: int
    reason: str
    error: str | None
    worker: str | None
    died_at: Moment
    key: str | None = None
    headers: dict[str, Any] | None = None
    published_at: Moment | None = None
    _untold: ClassVar = frozenset({"worker", "died_at", "headers", "published_at"})
    _noun: ClassVar = "dead letter"


class LeaseInfos(msgspec.Struct):
    """A page of leases."""

    leases: list[LeaseInfo]


class DeadLetters(msgspec.Struct):
    """A page of dead letters."""

    dead: list[DeadLetter]


def leased_messages(found: Leased) -> tuple[LeasedMessage, ...]:
    """Return the messages of an answer, each with what they have in common."""
    topic, subscriber, lease = found.topic, found.subscriber, found.lease or ""
    return tuple(
        LeasedMessage(
            *(m.offset, m.payload, m.key, m.headers, m.published_at, topic, subscriber, None),
            *(m.attempt, lease),
        )
        for m in found.messages
    )
