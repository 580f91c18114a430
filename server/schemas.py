"""What goes over the wire: the bodies and queries that are accepted and the answers that are given.

The server checks requests against these types and describes itself with them in `/openapi.json`.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

LARGEST = 2**63 - 1
MAX_LIMIT = 10_000

Position = Annotated[int, Meta(ge=0, le=LARGEST, description="the last offset already done")]
Offset = Annotated[int, Meta(ge=1, le=LARGEST, description="1, 2, 3 …")]
Epoch = Annotated[
    int,
    Meta(ge=0, le=LARGEST, description="random at first, raised by every reset and seek"),
]
Count = Annotated[int, Meta(ge=0)]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,200}$", description="1 to 200 of A-Z a-z 0-9 . _ -; not . or .."
    ),
]
Timestamp = Annotated[datetime, Meta(tz=True, description="RFC 3339, with a time zone")]
Limit = Annotated[
    int, Meta(ge=1, description=f"how many at the most; above {MAX_LIMIT} it is {MAX_LIMIT}")
]
Producer = Annotated[str, Meta(min_length=1, max_length=200)]


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A request body: unknown members are refused."""


class NewTopic(Body):
    """Make a topic."""

    topic: Name
    description: Annotated[str, Meta(max_length=1000)] | None = None


class Move(Body):
    """Where a seek or reset goes: a position or a timestamp, exactly one of them."""

    offset: Position | None = None
    timestamp: Timestamp | None = None
    dry_run: bool = False


class Batch(Body):
    """Messages to publish: parallel arrays, null where a message has no key or no headers."""

    payloads: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=10_000)]
    keys: list[str | None] | None = None
    headers: list[msgspec.Raw] | None = None
    producer: Producer | None = None
    sequence: Annotated[int, Meta(ge=0, le=LARGEST)] | None = None


class At(Body):
    """A point in time."""

    timestamp: Timestamp


class NewSubscriber(Body):
    """Subscribe; without a name one is made up."""

    subscriber: Name | None = None
    start: Literal["latest", "earliest"] | Position | At = "latest"


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
    wait: Annotated[float, Meta(ge=0, le=60, description="seconds")] = 0.0
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


class Subscribers(msgspec.Struct):
    """A page of subscribers, in name order."""

    subscribers: list[Subscriber]


class Message(msgspec.Struct, omit_defaults=True):
    """A message; `key` and `headers` are there when it has them."""

    offset: Offset
    published_at: Timestamp
    payload: Any
    key: str | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


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
