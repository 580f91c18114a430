"""What goes over the wire about workers: leases and dead letters. See `server.http.schemas`."""

from typing import Annotated, Literal

import msgspec

from server.http.fields import (
    Attempt,
    Count,
    Delay,
    Epoch,
    LeaseSeconds,
    Limit,
    Name,
    Number,
    Offset,
    Offsets,
    Position,
    Timestamp,
    Wait,
    Words,
    Worker,
    rule,
)
from server.http.schemas import Body, Message


class NewLease(Body):
    """What a worker wants, for how many seconds, and for how long to wait when there is nothing."""

    worker: Worker | None = None
    limit: Limit = 1
    lease_seconds: LeaseSeconds = 30.0
    wait: Wait = 0.0


class LeaseAck(Body):
    """These messages are done, or all that the lease holds."""

    offsets: Offsets | None = None


class Nack(Body):
    """These messages go back, or all that the lease holds.

    They rest for `delay_seconds`, or for longer with each attempt. `untried`: nobody has begun with them; they are due
    at once, this attempt does not count, and none becomes a dead letter.
    """

    offsets: Offsets | None = None
    delay_seconds: Delay | None = None
    error: Words | None = None
    untried: Annotated[bool, rule("true or false")] = False


class Extension(Body):
    """For how many seconds from now on a lease is to hold; never for less than it did."""

    lease_seconds: LeaseSeconds


class DeadLetters(Body):
    """Which dead letters, or the first ones; and how many at the most."""

    offsets: Offsets | None = None
    limit: Limit = 1000


class NumberedPage(Body):
    """Which part of a list that is in the order of numbers: what comes after one of them."""

    after: Number | None = None
    limit: Limit = 100


class LeasedMessage(Message, kw_only=True):
    """A message of a lease."""

    attempt: Attempt


class Leased(msgspec.Struct):
    """A lease with its messages; null, null and none when there is nothing to do."""

    topic: Name
    subscriber: Name
    lease: str | None
    expires_at: Timestamp | None
    messages: list[LeasedMessage]


class LeaseAcked(msgspec.Struct):
    """How many messages were done by this ack, and the subscriber after it."""

    acked: Count
    position: Position
    epoch: Epoch
    head: Position
    lag: Count


class Nacked(msgspec.Struct):
    """How many messages went back, and how many are dead letters now."""

    nacked: Count
    dead: Count


class Extended(msgspec.Struct):
    """Until when the lease holds."""

    expires_at: Timestamp


class HeldLease(msgspec.Struct):
    """What a worker has, and until when: a lease, named without its secret."""

    lease: str
    worker: str | None
    offsets: list[Offset]
    attempt: Attempt
    leased_at: Timestamp
    expires_at: Timestamp


class HeldLeases(msgspec.Struct):
    """A page of leases that have not expired, in the order in which they were made."""

    leases: list[HeldLease]


class DeadLetter(Message, kw_only=True):
    """A message that a subscriber has given up, and why."""

    attempts: Attempt
    reason: Literal["nacked", "expired"]
    error: str | None
    worker: str | None
    died_at: Timestamp


class Dead(msgspec.Struct):
    """A page of dead letters, in the order of their offsets."""

    dead: list[DeadLetter]


class Redriven(msgspec.Struct):
    """How many dead letters the workers have before them again."""

    redriven: Count


class Removed(msgspec.Struct):
    """How many dead letters are gone for good."""

    removed: Count
