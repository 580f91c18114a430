"""Messages out of an answer that cannot be read as a whole: those before the one that is to blame."""

from __future__ import annotations

import json
import re
from typing import Any

from qlib.answers import LARGEST
from qlib.errors import UnreadableMessage
from qlib.models import Batch, Message

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
        answer = json.loads(head + b'"messages":[]}')
        empty = Batch.from_json(answer)
        readable, blamed, error = _readable(messages.decode(errors="strict" if whole else "ignore"))
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if blamed is None or (whole and isinstance(error, json.JSONDecodeError)):
        return None
    if readable:
        return Batch.from_json({**answer, "messages": readable})
    why = str(error) if whole else f"it is longer than {LARGEST} bytes"
    behind = "" if empty.epoch is None else f"; ack({blamed}) leaves it behind"
    unreadable = UnreadableMessage(f"offset {blamed} of topic {empty.topic!r}: {why:.200}{behind}")
    unreadable.offset, unreadable.epoch = blamed, empty.epoch
    raise unreadable from error


def _readable(text: str) -> tuple[list[Any], int | None, Exception | None]:
    """Return the messages that can be read, and the offset of the next one with what is wrong."""
    found: list[Any] = []
    at = 0
    while begins := _BEGINS.match(text, at):
        try:
            message, at = _decoder.raw_decode(text, at)
            Message.from_json(message, "")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            return found, int(begins[1]), error
        found.append(message)
        at += 1  # the comma
    return found, None, None
