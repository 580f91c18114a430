"""Single messages that travel in batches: the callers' threads encode and append, another one sends."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from os import getpid
from types import TracebackType
from typing import Any

from qlib.batched import LARGEST_MESSAGE, NUL, Batched, beside, check
from qlib.batches import Encoded
from qlib.checks import integer, name, seconds
from qlib.errors import InvalidRequest, NotSent, QueueError
from qlib.handle import Handle, again
from qlib.pending import Pending, Settings
from qlib.process import OfProcess, close_at_exit, forget
from qlib.values import Encode

_LARGEST_BATCH = 10_000  # messages, as the queue takes them

Store = Callable[[str, list[str], Encoded], range]


class Buffered:
    """Publishes to one topic behind the caller's back, in order; `QPublisher.buffered` makes it.

    Threads may share one: their messages come in the order of their calls. A forked child's begins
    empty: what the parent's had accepted, the parent sends. A signal handler must not call it: it
    would wait for the thread that it interrupts. Raise SystemExit there: the block's end closes it.
    """

    def __init__(
        self, topic: str, encode: Encode, store: Store, linger: float, batch: int, pending: int
    ) -> None:
        """Check the settings; nothing runs before the first message. Raises InvalidRequest."""
        self.topic = name(topic, "a topic's name")
        linger = seconds(linger, "linger is a number of seconds from 0 on", lambda s: s >= 0)
        batch = _within(batch, _LARGEST_BATCH, f"batch lies between 1 and {_LARGEST_BATCH}")
        pending = _within(pending, inf, "pending is an integer from 1 on")
        self._encode, self._store = encode, store
        self._told = False
        # The thread has this method, and so it keeps the buffer, which is closed at exit.
        settings = Settings(repr(self), self._send, linger, batch, pending)
        self._pending = OfProcess(Pending(settings))
        close_at_exit(self)

    def __repr__(self) -> str:
        """Return the topic's name."""
        return f"Buffered({self.topic!r})"

    def __enter__(self) -> Buffered:
        """Return the buffer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it; an exception passes through, with a note when not everything is stored.

        But NotSent of this buffer does not: the error behind it says what is stored and in doubt.
        """
        try:
            self.close()
        except QueueError as failure:
            ours = isinstance(error, NotSent) and error.__cause__ is self._pending[getpid()].failure
            if error is None or ours:
                raise failure from failure.__cause__
            error.add_note(f"{self!r}: {failure}")

    def publish(
        self, payload: Any, key: str | None = None, headers: dict[str, Any] | None = None
    ) -> Handle:
        """Accept one message, and return a handle of its offset.

        It is encoded before this returns: the payload may be changed then. Waits while `pending`
        messages, or about 16 MiB of them, are not answered. Raises InvalidRequest when it is not
        JSON, holds U+0000 or the buffer is closed, MessageTooLarge, NotSent when a batch has failed,
        and RuntimeError when no thread can be started for the first one. What only the queue finds,
        such as JSON of more than 64 levels, fails its batch.
        """
        text = self._encode(payload, "payload")
        size, more = len(text), None
        if key is not None or headers is not None:
            more = beside(self._encode, key, headers)
            size += len(more[0]) + len(more[1])
        if size > LARGEST_MESSAGE or NUL in text or more:
            check(text, more)
        return self._pending[getpid()].accept(text, more, size)

    def flush(self) -> None:
        """Send what was accepted so far now, and wait until all of it is answered.

        Each batch takes at most the publisher's `timeout`. Raises the error of the first batch that
        failed, whose text counts the messages that are stored, that are in doubt or refused, and
        that were not sent; `published` holds the offsets of the newest that are stored.
        """
        pending = self._pending[getpid()]
        pending.flush()
        if pending.failure:
            raise again(pending.failure)

    def close(self) -> None:
        """Flush, and end the thread; raises what `flush` does. Closing again does nothing.

        Ctrl-C breaks the wait off, with a note of how many messages have no answer yet; they are
        sent as long as the process lives.
        """
        forget(self)  # whoever breaks this off does not want to wait again
        pending = self._pending[getpid()]
        pending.close()
        told, self._told = self._told, True
        if pending.failure and not told:
            raise again(pending.failure)

    def _send(self, batch: Batched) -> range:
        return self._store(self.topic, *batch.encoded())


def _within(value: int, most: float, rule: str) -> int:
    found = integer(value, rule)
    if not 1 <= found <= most:
        raise InvalidRequest(f"{rule}, not {found}")
    return found
