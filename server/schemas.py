"""What goes over the wire: the bodies and queries that are accepted and the answers that are given.

The server checks requests against these types and describes itself with them in `/openapi.json`.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

LARGEST = 2**63 - 1
MAX_LIMIT = 10_000

NAME = "1 to 200 of A-Z a-z 0-9 . _ -"


def _rule(text: str) -> Meta:
    """Return what people are told of a type that does not fit; it is no part of `/openapi.json`."""
    return Meta(extra={"rule": text})


_FROM_0 = _rule(f"an integer from 0 to {LARGEST}")

Position = Annotated[
    int, Meta(ge=0, le=LARGEST, description="the last offset already done"), _FROM_0
]
Offset = Annotated[
    int, Meta(ge=1, le=LARGEST, description="1, 2, 3 …"), _rule(f"an integer from 1 to {LARGEST}")
]
Epoch = Annotated[
    int,
    Meta(ge=0, le=LARGEST, description="random at first, raised by every reset and seek"),
    _FROM_0,
]
Count = Annotated[int, Meta(ge=0)]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,200}$", description="1 to 200 of A-Z a-z 0-9 . _ -; not . or .."
    ),
    _rule(NAME),
]
Description = Annotated[str, Meta(max_length=1000), _rule("a text of at most 1,000 characters")]
Timestamp = Annotated[
    datetime,
    Meta(tz=True, description="RFC 3339, with a time zone"),
    _rule("a time with its zone, as in 2024-02-29T12:00:00Z"),
]
Limit = Annotated[
    int,
    Meta(ge=1, description=f"how many at the most; above {MAX_LIMIT} it is {MAX_LIMIT}"),
    _rule("an integer from 1 on"),
]
Producer = Annotated[
    str, Meta(min_length=1, max_length=200), _rule("a text of 1 to 200 characters")
]


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
    dry_run: Annotated[bool, _rule("true or false")] = False


class Batch(Body):
    """Messages to publish: parallel arrays, null where a message has no key or no headers."""

    payloads: Annotated[
        list[msgspec.Raw],
        Meta(min_length=1, max_length=10_000),
        _rule("an array of 1 to 10,000 payloads, each any JSON"),
    ]
    keys: (
        Annotated[list[str | None], _rule("an array with a text or null for each payload")] | None
    ) = None
    headers: (
        Annotated[list[msgspec.Raw], _rule("an array with an object or null for each payload")]
        | None
    ) = None
    producer: Producer | None = None
    sequence: (
        Annotated[int, Meta(ge=0, le=LARGEST), _rule(f"an integer from 0 to {LARGEST}")] | None
    ) = None


class At(Body):
    """A point in time."""

    timestamp: Timestamp


class NewSubscriber(Body):
    """Subscribe; without a name one is made up."""

    subscriber: Name | None = None
    start: Annotated[
        Literal["latest", "earliest"] | Position | At,
        _rule('"latest", "earliest", a position, or {"timestamp": a time with its zone}'),
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
    wait: Annotated[
        float,
        Meta(ge=0, le=60, description="seconds"),
        _rule("a number of seconds from 0 to 60"),
    ] = 0.0
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
