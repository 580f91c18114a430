"""Where a subscriber goes by a start, a seek or a reset, in the server's words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from qlib.checks import integer
from qlib.errors import InvalidRequest

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
