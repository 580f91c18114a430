"""Messages out of an answer that cannot be read as a whole: those before the one that is to blame."""

from __future__ import annotations

import json
import re

from qlib.errors import UnreadableMessage
from qlib.models import Batch
from qlib.reading import Found, Kept, KeptOut, Leased, T, made, read
from qlib.received import LARGEST

_BEGINS = re.compile(r'\{"offset":([0-9]{1,19}),')
_decoder = json.JSONDecoder()


def salvaged(content: bytes, whole: bool) -> Batch | None:
    """Return the messages before the first unreadable one, from the bytes of a fetch or a browse.

    `whole` is False when these are only the first of too many bytes. Raises UnreadableMessage when
    there are no messages before it. Returns None when the bytes are no answer of the queue: nobody
    may skip a message because something else answered.
    """
    head, _, messages = content.partition(b'"messages":[')
    try:
        found = read(Found, head + b'"messages":[]}')
        found.messages, blamed, error = _readable(
            messages.decode(errors="strict" if whole else "ignore"), Kept
        )
    except (ValueError, RecursionError):
        return None
    if blamed is None or (whole and isinstance(error, json.JSONDecodeError)):
        return None
    if found.messages:
        return Batch.of(found)
    why = _why(error, whole)
    behind = "" if found.epoch is None else f"; ack({blamed}) leaves it behind"
    unreadable = UnreadableMessage(f"offset {blamed} of topic {found.topic!r}: {why}{behind}")
    unreadable.offset, unreadable.epoch = blamed, found.epoch
    raise unreadable from error


def salvaged_lease(content: bytes, whole: bool) -> Leased | None:
    """Return a lease with the messages before the first unreadable one, which it names.

    Returns None when the bytes are no answer of the queue.
    """
    head, _, messages = content.partition(b'"messages":[')
    try:
        found = read(Leased, head + b'"messages":[]}')
        text = messages.decode(errors="strict" if whole else "ignore")
        found.messages, blamed, error = _readable(text, KeptOut)
    except (ValueError, RecursionError):
        return None
    if blamed is None or (whole and isinstance(error, json.JSONDecodeError)):
        return None
    found.unreadable = blamed, _why(error, whole)
    return found


def _why(error: Exception | None, whole: bool) -> str:
    return f"{error!s:.200}" if whole else f"it is longer than {LARGEST} bytes"


def _readable(text: str, kind: type[T]) -> tuple[list[T], int | None, Exception | None]:
    """Return the messages that can be read, and the offset of the next one with what is wrong."""
    found: list[T] = []
    at = 0
    while begins := _BEGINS.match(text, at):
        try:
            message, at = _decoder.raw_decode(text, at)
            found.append(made(kind, message))
        except (ValueError, RecursionError) as error:
            return found, int(begins[1]), error
        at += 1  # the comma
    return found, None, None
