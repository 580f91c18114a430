"""What goes into an engine and comes out of it."""

from typing import NamedTuple


class Batch(NamedTuple):
    """So many messages to publish: payloads and headers as the text of JSON arrays, keys as many or none at all.

    `producer` and `sequence` number the publish.
    """

    payloads: str
    length: int
    keys: list[str | None] | None = None
    headers: str | None = None
    producer: str | None = None
    sequence: int | None = None


class Published(NamedTuple):
    """Where a batch was stored; `duplicate` when an earlier publish with the same numbers had stored it."""

    first_offset: int
    last_offset: int
    duplicate: bool


class Fetch(NamedTuple):
    """What a subscriber wants to read: from its position on, or after another offset; in one epoch only, if given."""

    subscriber: str
    limit: int
    after: int | None = None
    epoch: int | None = None


class Fetched(NamedTuple):
    """A run of messages, as JSON text without the brackets, empty when there is none.

    `position` and `epoch` are the subscriber's in a fetch; a browse has the topic's `floor` as its position.
    """

    position: int
    epoch: int
    head: int
    messages: str


class Ack(NamedTuple):
    """Everything up to `offset` is done; the epoch is the one of the fetch."""

    subscriber: str
    offset: int
    epoch: int


class Acked(NamedTuple):
    """A subscriber after an ack."""

    position: int
    epoch: int
    head: int
    lag: int


class Lag(NamedTuple):
    """How far behind a subscriber is, in messages and in seconds."""

    topic: str
    subscriber: str
    messages: int
    seconds: float


class Lease(NamedTuple):
    """What a worker of a subscriber wants to have for itself: so many messages, for so many seconds."""

    subscriber: str
    worker: str | None
    limit: int
    seconds: float


class Leased(NamedTuple):
    """A lease, until when it holds (RFC 3339), and its messages as JSON text without the brackets.

    None, None and empty when there are none: `due_seconds` says then after how many seconds there may be some even if
    nothing is published; 0 for at once, None for never. `act` is the newest one that had been seen when it was made.
    """

    lease: str | None
    expires_at: str | None
    messages: str
    due_seconds: float | None
    act: int | None = None


class LeaseAck(NamedTuple):
    """These messages of a lease are done, or all that it holds."""

    subscriber: str
    lease: str
    offsets: list[int] | None


class LeaseAcked(NamedTuple):
    """How many messages are done by an ack, and the subscriber after it.

    `ordered`: its workers keep the order of keys, so that the next message of one may be due now.
    """

    acked: int
    position: int
    epoch: int
    head: int
    lag: int
    ordered: bool


class Nack(NamedTuple):
    """These messages of a lease go back, or all that it holds: with the worker's words, and for how long they rest."""

    subscriber: str
    lease: str
    offsets: list[int] | None = None
    delay_seconds: float | None = None
    error: str | None = None
    untried: bool = False


class Nacked(NamedTuple):
    """How many messages went back, and how many are dead letters now."""

    nacked: int
    dead: int


class WorkSettings(NamedTuple):
    """How a subscriber's workers work; None: as it is, or as usual."""

    max_attempts: int | None = None
    backoff_seconds: float | None = None
    backoff_cap_seconds: float | None = None
    ordered: bool | None = None


class Workload(NamedTuple):
    """What a subscriber's workers are at, in messages; and for how long its oldest lease is held, if it has any."""

    topic: str
    subscriber: str
    leased: int
    delayed: int
    dead: int
    redeliveries: int
    oldest_lease_seconds: float | None


class Health(NamedTuple):
    """Which `engine` it is, in words; `unsafe` names the settings that break the promise of durability."""

    engine: str
    unsafe: list[str]
