"""The messages of a buffer that are sent together: as they are encoded, and what became of them."""

from __future__ import annotations

import re
from threading import Event
from typing import Any

from qlib.batches import Encoded
from qlib.errors import InvalidRequest, MessageTooLarge, OutcomeUnknown, QueueError
from qlib.values import Encode

# The JSON of payload, key and headers.
Row = tuple[bytes, bytes, bytes]

_LARGEST_MESSAGE = 2**20
_NULL = b"null"
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def encoded(encode: Encode, payload: Any, key: object, headers: object) -> Row:
    """Return a message as JSON.

    Raises InvalidRequest or MessageTooLarge for what people hand in and the queue would refuse: it
    would refuse all that came with it.
    """
    row = (
        _checked(encode(payload, "payload"), "payload"),
        _NULL if key is None else _checked(encode(key, "key"), "key", b'"', "a text"),
        _NULL
        if headers is None
        else _checked(encode(headers, "headers"), "headers", b"{", "a dict"),
    )
    size = sum(map(len, row))
    if size > _LARGEST_MESSAGE:
        raise MessageTooLarge(f"the message is {size} bytes, at most {_LARGEST_MESSAGE}")
    return row


def _checked(text: bytes, name: str, begins: bytes = b"", kind: str = "") -> bytes:
    if not text.startswith(begins):
        raise InvalidRequest(f"{name} must be {kind}, not {text.decode():.80}")
    if b"\\u0000" in text and _NUL.search(text):
        raise InvalidRequest(f"{name} holds the character U+0000, which the queue does not keep")
    return text


class Batched:
    """Messages that are sent together, and what became of them once that is known: `done`.

    They are sent at `due`, on the monotonic clock, or when it is `sealed` and no more may come.
    """

    __slots__ = ("_settled", "done", "due", "error", "offsets", "rows", "sealed", "size")

    def __init__(self, due: float) -> None:
        """Begin with no message."""
        self.due = due
        self.rows: list[Row] = []
        self.size = 0
        self.sealed = self.done = False
        self.offsets = range(0)
        self.error: QueueError | None = None
        self._settled = Event()  # one for all handles: it costs more than a message

    def encoded(self) -> tuple[list[str], Encoded]:
        """Return the names of the columns that are needed, and their texts."""
        payloads, keys, headers = zip(*self.rows, strict=True)
        columns = {"payloads": payloads, "keys": keys, "headers": headers}
        needed = {
            name: b",".join(column)
            for name, column in columns.items()
            if column is payloads or any(text != _NULL for text in column)
        }
        return list(needed), Encoded([(len(payloads), tuple(needed.values()))], 0)

    def settle(self, offsets: range, error: QueueError | None = None) -> None:
        """Say what became of them, for good."""
        self.offsets, self.error = offsets, error
        self.rows = []  # handles may be kept for long
        self.done = True
        self._settled.set()

    def leave(self) -> None:
        """Leave them to the parent process, which alone learns what became of them."""
        self._settled = Event()
        if not self.done:
            self.settle(
                range(0), OutcomeUnknown("the process that was forked has it, and sends it")
            )

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done; tell whether it is."""
        return self.done or self._settled.wait(timeout)
