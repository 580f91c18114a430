"""What the queue answers: frozen values with a short repr and an HTML table for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from qlib.marks import unmarked
from qlib.views import Shown, table

if TYPE_CHECKING:
    import pandas as pd

_ROWS_SHOWN = 10
_AS_IT_IS = ("key", "headers", "payload")  # what pandas might take for numbers, or for nothing


@dataclass(frozen=True, slots=True, repr=False)
class Topic(Shown):
    """A named log, as it was when the server answered.

    `floor` is the first offset still kept, `head` the last one (0 when nothing was ever
    published), `subscribers` a count, `created_at` a time with its zone.
    """

    topic: str
    description: str | None
    created_at: datetime = field(repr=False)
    floor: int
    head: int
    subscribers: int

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Topic:
        """Read the server's answer; KeyError, TypeError or ValueError when it is not a topic."""
        return cls(
            topic=_text(answer["topic"]),
            description=_optional_text(answer.get("description")),
            created_at=_time(answer["created_at"]),
            floor=_integer(answer["floor"]),
            head=_integer(answer["head"]),
            subscribers=_integer(answer["subscribers"]),
        )

    def _shown(self, name: str) -> Any:
        return unmarked(self.description) if name == "description" else getattr(self, name)


@dataclass(frozen=True, slots=True, repr=False)
class Subscriber(Shown):
    """A durable reader of one topic, as it was when the server answered.

    `position` is the last offset acknowledged, `lag` is `head` − `position`, and `epoch` is
    what an ack has to carry: random at first, it goes up by one at every reset or seek.
    """

    topic: str
    subscriber: str
    position: int
    epoch: int = field(repr=False)
    head: int
    lag: int
    created_at: datetime = field(repr=False)

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Subscriber:
        """Read the server's answer; KeyError, TypeError or ValueError when it is no subscriber."""
        return cls(
            topic=_text(answer["topic"]),
            subscriber=_text(answer["subscriber"]),
            position=_integer(answer["position"]),
            epoch=_integer(answer["epoch"]),
            head=_integer(answer["head"]),
            lag=_integer(answer["lag"]),
            created_at=_time(answer["created_at"]),
        )


@dataclass(frozen=True, slots=True, repr=False)
class Reset(Shown):
    """A reset of a whole topic: the position that its `subscribers` (a count) were moved to."""

    topic: str
    offset: int
    subscribers: int

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Reset:
        """Read the server's answer; KeyError, TypeError or ValueError when it is not a reset."""
        return cls(
            topic=_text(answer["topic"]),
            offset=_integer(answer["offset"]),
            subscribers=_integer(answer["subscribers"]),
        )


@dataclass(frozen=True, slots=True, repr=False)
class Message(Shown):
    """One message of `topic`: any JSON as `payload`, with an optional `key` and `headers`.

    `published_at` is a time with its zone. `subscriber` fetched it, and `epoch` was its epoch then,
    which the ack must carry; both are None when the message was browsed. Messages are equal when
    the log has them at one place with one content, whoever read them.
    """

    offset: int
    payload: Any = field(hash=False)
    key: str | None
    headers: dict[str, Any] | None = field(hash=False)
    published_at: datetime = field(repr=False)
    topic: str = field(repr=False)
    subscriber: str | None = field(default=None, repr=False, compare=False)
    epoch: int | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_json(
        cls,
        answer: Mapping[str, Any],
        topic: str,
        subscriber: str | None = None,
        epoch: int | None = None,
    ) -> Message:
        """Read the server's answer; KeyError, TypeError or ValueError when it is no message."""
        return cls(
            _integer(answer["offset"]),
            answer["payload"],
            answer.get("key"),
            answer.get("headers"),
            _time(answer["published_at"]),
            topic,
            subscriber,
            epoch,
        )


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
    def from_json(cls, answer: Mapping[str, Any]) -> Batch:
        """Read the server's answer to a fetch, or to a browse, which has no position or epoch."""
        fetched = "epoch" in answer
        topic = _text(answer["topic"])
        subscriber = _text(answer["subscriber"]) if fetched else None
        epoch = _integer(answer["epoch"]) if fetched else None
        batch = cls(
            Message.from_json(message, topic, subscriber, epoch) for message in answer["messages"]
        )
        batch.topic = topic
        batch.position = _integer(answer["position"]) if fetched else None
        batch.epoch = epoch
        batch.head = _integer(answer["head"])
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


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not an integer")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _time(value: str) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return moment
