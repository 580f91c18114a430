"""What the queue answers: frozen values with a short repr and an HTML table for notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from qlib.marks import unmarked
from qlib.reading import Found, Moment, read
from qlib.views import Shown, table

if TYPE_CHECKING:
    import pandas as pd

_ROWS_SHOWN = 10
_SETTINGS = {
    "max_attempts": 5,
    "backoff_seconds": 1.0,
    "backoff_cap_seconds": 3600.0,
    "ordered": False,
}
_AS_IT_IS = ("key", "headers", "payload")  # what pandas might take for numbers, or for nothing


# Dataclasses for those who use them, and Structs for msgspec, which fills those three times as fast.


class Value(Shown, msgspec.Struct, frozen=True):
    """What is read from an answer as it is."""

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read the server's answer; ValueError or RecursionError when it is no such value."""
        return read(cls, content)


@dataclass(frozen=True, init=False, repr=False, eq=False, match_args=False)
class Topic(Value, frozen=True):
    """A named log, as it was when the server answered.

    `floor` is the first offset still kept, `head` the last one (0 when nothing was ever
    published), `subscribers` a count, `created_at` a time with its zone.
    """

    topic: str
    description: str | None
    created_at: Moment
    floor: int
    head: int
    subscribers: int
    _untold: ClassVar = frozenset({"created_at"})

    def _shown(self, name: str) -> Any:
        return unmarked(self.description) if name == "description" else getattr(self, name)


class Topics(msgspec.Struct):
    """A page of topics."""

    topics: list[Topic]


@dataclass(frozen=True, init=False, repr=False, eq=False, match_args=False)
class Subscriber(Value, frozen=True):
    """A durable reader of one topic, as it was when the server answered.

    `position` is the last offset acknowledged, `lag` is `head` − `position`, and `epoch` is
    what an ack has to carry: random at first, it goes up by one at every reset or seek. The rest
    are the settings of its workers, as `QSubscriber` takes them; they show where they are not the
    usual ones.
    """

    topic: str
    subscriber: str
    position: int
    epoch: int
    head: int
    lag: int
    created_at: Moment
    max_attempts: int = 5
    backoff_seconds: float = 1.0
    backoff_cap_seconds: float = 3600.0
    ordered: bool = False
    _untold: ClassVar = frozenset({"epoch", "created_at", *_SETTINGS})

    def _facts(self) -> list[tuple[str, str]]:
        settings = ((name, getattr(self, name)) for name in _SETTINGS)
        return super()._facts() + [(n, repr(it)) for n, it in settings if it != _SETTINGS[n]]


class Subscribers(msgspec.Struct):
    """A page of subscribers."""

    subscribers: list[Subscriber]


@dataclass(frozen=True, init=False, repr=False, eq=False, match_args=False)
class Reset(Value, frozen=True):
    """A reset of a whole topic: the position that its `subscribers` (a count) were moved to."""

    topic: str
    offset: int
    subscribers: int


@dataclass(frozen=True, init=False, repr=False, eq=False, match_args=False)
class Message(Shown, msgspec.Struct, frozen=True):
    """One message of `topic`: any JSON as `payload`, with an optional `key` and `headers`.

    `published_at` is a time with its zone. `subscriber` fetched it, and `epoch` was its epoch then,
    which the ack must carry; both are None when the message was browsed. Messages are equal when
    the log has them at one place with one content, whoever read them.
    """

    offset: int
    payload: Any
    key: str | None
    headers: dict[str, Any] | None
    published_at: Moment
    topic: str
    subscriber: str | None = None
    epoch: int | None = None
    _untold: ClassVar = frozenset({"published_at", "topic", "subscriber", "epoch"})

    def __eq__(self, other: object) -> bool:
        """Leave out who read it."""
        if not isinstance(other, Message):
            return NotImplemented
        return self._place() == other._place() and self._content() == other._content()

    def __hash__(self) -> int:
        """Leave out what may be a list or a dict."""
        return hash(self._place())

    def _place(self) -> tuple[object, ...]:
        return self.offset, self.key, self.published_at, self.topic

    def _content(self) -> tuple[object, ...]:
        return self.payload, self.headers


class Batch(tuple[Message, ...]):
    """The messages of one fetch or browse in offset order, and where they were read.

    `position` and `epoch` are the subscriber's at the fetch, None from a browse; `head` is the
    topic's last offset.
    """

    topic: str
    position: int | None
    epoch: int | None
    head: int

    @classmethod
    def from_json(cls, content: bytes) -> Batch:
        """Read the server's answer to a fetch, or to a browse, which has no position or epoch."""
        return cls.of(read(Found, content))

    @classmethod
    def of(cls, found: Found) -> Batch:
        """Return the messages of an answer, each with what they have in common."""
        topic, subscriber, epoch = found.topic, found.subscriber, found.epoch
        batch = cls(
            [
                Message(
                    m.offset, m.payload, m.key, m.headers, m.published_at, topic, subscriber, epoch
                )
                for m in found.messages
            ]
        )
        batch.topic, batch.head = topic, found.head
        batch.position, batch.epoch = found.position, epoch
        return batch

    def to_frame(self) -> pd.DataFrame:
        """Return the messages as a table of pandas, which must be installed.

        Its columns are offset, published_at, key, headers and payload, each value as it is in the
        message: a payload that is an object is a dict in one cell, and
        `pandas.json_normalize(batch.to_frame()["payload"])` makes columns of its members.
        """
        import pandas as pd  # the client does without, but for this

        as_it_is = {
            name: pd.Series([getattr(m, name) for m in self], dtype=object) for name in _AS_IT_IS
        }
        return pd.DataFrame(
            {
                "offset": pd.Series([m.offset for m in self], dtype="int64"),
                "published_at": pd.to_datetime([m.published_at for m in self], utc=True),
                **as_it_is,
            }
        )

    def _caption(self) -> str:
        span = f", offsets {self[0].offset} to {self[-1].offset}" if self else ""
        return f"Batch of {len(self)} from {self.topic}{span}"

    def __repr__(self) -> str:
        """Return how many messages there are, and which."""
        return f"<{self._caption()}>"

    def _repr_html_(self) -> str:
        time, headers = ["published_at"] * bool(self), ["headers"] * any(m.headers for m in self)
        names = ["offset", *time, "key", *headers, "payload"]
        return table(self._caption(), names, self, _ROWS_SHOWN)
