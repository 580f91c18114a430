"""What goes over the wire: the bodies and queries that are accepted and the answers that are given.

The server checks requests against these types and describes itself with them in `/openapi.json`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from server.http.fields import (
    Count,
    Delay,
    Description,
    Epoch,
    Headers,
    Limit,
    MaxAttempts,
    Name,
    Number,
    Object,
    Offset,
    Position,
    Producer,
    Timestamp,
    Wait,
    rule,
)


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A request body: unknown members are refused."""


class NewTopic(Body):
    """Make a topic."""

    topic: Name
    description: Description | None = None


class Move(Body):
    """Where a seek or reset goes: a position or a timestamp, exactly one of them."""

    offset: Position | None = None
    timestamp: Timestamp | None = None
    dry_run: Annotated[bool, rule("true or false")] = False


class Batch(Body):
    """Messages to publish: parallel arrays, null where a message has no key or no headers."""

    payloads: Annotated[
        list[msgspec.Raw],
        Meta(min_length=1, max_length=10_000),
        rule("an array of 1 to 10,000 payloads, each any JSON"),
    ]
    keys: (
        Annotated[list[str | None], rule("an array with a text or null for each payload")] | None
    ) = None
    headers: (
        Annotated[list[Headers], rule("an array with an object or null for each payload")] | None
    ) = None
    producer: Producer | None = None
    sequence: Number | None = None


class At(Body):
    """A point in time."""

    timestamp: Timestamp


class Settings(Body):
    """How a subscriber's workers work; what is not given is as it is, or as usual."""

    max_attempts: MaxAttempts | None = None
    backoff_seconds: Delay | None = None
    backoff_cap_seconds: Delay | None = None
    ordered: Annotated[bool, rule("true or false")] | None = None


class NewSubscriber(Settings):
    """Subscribe; without a name one is made up."""

    subscriber: Name | None = None
    start: Annotated[
        Literal["latest", "earliest"] | Position | At,
        rule('"latest", "earliest", a position, or {"timestamp": a time with its zone}'),
    ] = "latest"


class Ack(Body):
    """Everything up to this offset is done; the epoch is the one that the fetch returned."""

    offset: Position
    epoch: Epoch


class Page(Body):
    """Which part of a list."""

    after: Name | None = None
    limit: Limit = 100


class BrowseQuery(Body):
    """Which messages of a topic."""

    offset: Offset | None = None
    limit: Limit = 100


class FetchQuery(Body):
    """Which messages after the position, and for how long to wait when there is none.

    `epoch` is the one in which those up to `after` were fetched; when it is over, nothing is read ahead.
    """

    limit: Limit = 100
    wait: Wait = 0.0
    after: Position | None = None
    epoch: Epoch | None = None


class Topic(msgspec.Struct):
    """A topic."""

    topic: Name
    description: str | None
    created_at: Timestamp
    floor: Offset
    head: Position
    subscribers: Count


class Topics(msgspec.Struct):
    """A page of topics, in name order."""

    topics: list[Topic]


class Subscriber(msgspec.Struct):
    """A subscriber."""

    topic: Name
    subscriber: Name
    position: Position
    epoch: Epoch
    head: Position
    lag: Count
    created_at: Timestamp
    max_attempts: MaxAttempts
    backoff_seconds: Delay
    backoff_cap_seconds: Delay
    ordered: bool


class Subscribers(msgspec.Struct):
    """A page of subscribers, in name order."""

    subscribers: list[Subscriber]


class Message(msgspec.Struct, omit_defaults=True):
    """A message; `key` and `headers` are there when it has them."""

    offset: Offset
    published_at: Timestamp
    payload: Any
    key: str | msgspec.UnsetType = msgspec.UNSET
    headers: Object | msgspec.UnsetType = msgspec.UNSET


class Published(msgspec.Struct):
    """Where a batch was stored; `duplicate` when an earlier publish with the same numbers had stored it."""

    topic: Name
    first_offset: Offset
    last_offset: Offset
    count: Count
    duplicate: bool


class Browsed(msgspec.Struct):
    """Messages of a topic."""

    topic: Name
    floor: Offset
    head: Position
    messages: list[Message]


class Fetched(msgspec.Struct):
    """Messages after a subscriber's position."""

    topic: Name
    subscriber: Name
    position: Position
    epoch: Epoch
    head: Position
    messages: list[Message]


class Acked(msgspec.Struct):
    """A subscriber after an ack."""

    position: Position
    epoch: Epoch
    head: Position
    lag: Count


class Reset(msgspec.Struct):
    """How many subscribers were moved, and where to."""

    topic: Name
    offset: Position
    subscribers: Count


class Health(msgspec.Struct):
    """`ok`, or `unsafe` when a setting that durability needs is off."""

    status: str
    engine: str
    unsafe: list[str]


class Error(msgspec.Struct):
    """RFC 9457 problem details."""

    status: int
    title: str
    detail: str
    code: str
    request_id: str
    outcome: str | msgspec.UnsetType = msgspec.UNSET
