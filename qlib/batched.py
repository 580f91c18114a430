"""The messages of a buffer that are sent together: as they are encoded, and what became of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from threading import TIMEOUT_MAX, Event
from time import monotonic

from qlib.batches import Encoded
from qlib.errors import InvalidRequest, MessageTooLarge, OutcomeUnknown, QueueError
from qlib.values import Encode

_NULL = b"null"
NUL = b"\\u0000"
_NUL_IN_TEXT = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
LARGEST_MESSAGE = 2**20 - len(_NULL)  # among messages with headers, those of one without count

BATCH_BYTES = 4 * 2**20

# The JSON of key and headers.
Beside = tuple[bytes, bytes]


def beside(encode: Encode, key: object, headers: object) -> Beside:
    """Return key and headers as JSON. Raises InvalidRequest when they are none."""
    name = _NULL if key is None else encode(key, "key")
    if not name.startswith((b'"', _NULL)):
        raise InvalidRequest(f"a key is a text, not {name.decode():.80}")
    members = _NULL if headers is None else encode(headers, "headers")
    if not members.startswith((b"{", _NULL)):
        raise InvalidRequest(f"headers are a dict, not {members.decode():.80}")
    return name, members


def check(text: bytes, beside: Beside | None) -> None:
    """Raise InvalidRequest or MessageTooLarge for what may well happen, and the queue would refuse.

    It would refuse all that came with it.
    """
    texts = [text, *(beside or ())]
    size = sum(map(len, texts))
    if size > LARGEST_MESSAGE:
        raise MessageTooLarge(f"the message is {size} bytes, at most {LARGEST_MESSAGE}")
    if any(NUL in text and _NUL_IN_TEXT.search(text) for text in texts):
        raise InvalidRequest(
            "the message holds the character U+0000, which the queue does not keep"
        )


class Batched:
    """Messages that are sent together, and what became of them once that is known: `done`.

    There are at most `most`, sent at `due`, on the monotonic clock, or when it is `sealed`: then no
    more may come.
    """

    __slots__ = (
        *("_settled", "beside", "done", "due", "error", "most", "offsets", "payloads", "sealed"),
        "size",
    )

    def __init__(self, due: float, most: int) -> None:
        """Begin with no message."""
        self.due, self.most = due, most
        self.payloads: list[bytes] = []
        self.beside: dict[int, Beside] = {}
        self.size = 0
        self.sealed = self.done = False
        self.offsets = range(0)
        self.error: QueueError | None = None
        self._settled = Event()  # one for all handles: it costs more than a message

    def takes(self, size: int) -> bool:
        """Tell whether there is room for one more message."""
        return len(self.payloads) < self.most and self.size + size <= BATCH_BYTES

    def encoded(self) -> tuple[list[str], Encoded]:
        """Return the names of the columns that are needed, and their texts."""
        columns: dict[str, Iterable[bytes]] = {"payloads": self.payloads}
        if self.beside:
            rows = (self.beside.get(index, (_NULL, _NULL)) for index in range(len(self.payloads)))
            for name, column in zip(("keys", "headers"), zip(*rows, strict=True), strict=True):
                if any(text != _NULL for text in column):
                    columns[name] = column
        texts = tuple(b",".join(column) for column in columns.values())
        return list(columns), Encoded([(len(self.payloads), texts)], 0)

    def explain(self, error: QueueError, stored: int, later: int) -> None:
        """Let its error tell what it means: for them, those that are `stored`, and the `later` ones."""
        number = len(self.payloads)
        doubt = "may be" if isinstance(error, OutcomeUnknown) else "are not"
        error.detail += (
            f"; of this buffer's messages, {stored} are stored, the {number} of this batch {doubt},"
            f" and the {later} after them were not sent"
        )
        error.args = (error.detail,)

    def settle(self, offsets: range, error: QueueError | None = None) -> None:
        """Say what became of them, for good."""
        self.offsets, self.error = offsets, error
        self.payloads, self.beside = [], {}  # handles may be kept for long
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
        if timeout is None:
            return self.done or self._settled.wait()
        end = monotonic() + timeout
        while not self.done and (left := end - monotonic()) > 0:
            self._settled.wait(min(left, TIMEOUT_MAX))
        return self.done
