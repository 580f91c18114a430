"""Where a subscriber goes by a start, a seek, a reset or an ack, in the server's words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from qlib.checks import integer
from qlib.errors import InvalidRequest
from qlib.leased import LeasedMessage
from qlib.models import Message

Place: TypeAlias = Literal["latest", "earliest"] | int | datetime

# The server finds the ends of the log by themselves, in the statement that moves the subscriber:
# every message is published after the one time, and none after the other.
_ENDS = {
    "earliest": datetime.min.replace(tzinfo=UTC),
    "latest": datetime.max.replace(tzinfo=UTC),
}
_RULE = '{} is "latest", "earliest", a position or a time with its zone'


def instant(moment: datetime) -> str:
    """Return a time as the server reads it; InvalidRequest when it has no zone, or is none."""
    try:
        if moment.utcoffset() is None:
            raise InvalidRequest(f"{moment!r} needs a time zone")
        return moment.astimezone(UTC).isoformat(timespec="microseconds")
    except (OverflowError, TypeError, ValueError) as error:  # pandas' NaT is a datetime, too
        raise InvalidRequest(f"{moment!r} is no time that can be told in UTC") from error


def target(to: Place, verb: str) -> dict[str, Any]:
    """Return where a reset or seek goes: a position or a time."""
    place = _ENDS.get(to, to) if isinstance(to, str) else to
    if isinstance(place, datetime):
        return {"timestamp": instant(place)}
    return {"offset": integer(place, _RULE.format(verb))}


def beginning(start: Place) -> object:
    """Return where a new subscriber starts: a word, a position or a time."""
    if isinstance(start, str) and start in _ENDS:
        return start
    if isinstance(start, datetime):
        return {"timestamp": instant(start)}
    return integer(start, _RULE.format("start"))


def fetched_place(
    message: Message | int, topic: str, subscriber: str, epoch: int
) -> tuple[int, int]:
    """Return the offset and the epoch that a plain ack carries; of a bare offset this `epoch`.

    Raises InvalidRequest for a message that this subscriber of this topic has not fetched.
    """
    if not isinstance(message, Message):
        return integer(message, "ack takes a message or an offset; of a batch, batch[-1]"), epoch
    if message.topic != topic:
        raise InvalidRequest(
            f"this message is of topic {message.topic!r}, and this subscriber reads {topic!r}"
        )
    if isinstance(message, LeasedMessage):
        raise InvalidRequest("this message is leased: acknowledge it at its lease")
    # Servers are not compared: two of them may serve one queue, and in another queue a subscriber
    # of this name has another epoch.
    if message.subscriber is None or message.epoch is None:
        raise InvalidRequest("this message was browsed and not fetched; acknowledge its offset")
    if message.subscriber != subscriber:
        raise InvalidRequest(
            f"this message was fetched by {message.subscriber!r}, not by {subscriber!r}"
        )
    return message.offset, message.epoch
