"""Single messages that travel in batches: the callers' threads encode and append, under one lock.

One thread of the buffer's own sends them; it waits for an answer before it sends the next batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from threading import Condition, Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Any

from qlib.batched import LARGEST_MESSAGE, NUL, Batched, beside, check
from qlib.batches import Encoded, joined
from qlib.checks import integer, name, seconds
from qlib.errors import InvalidRequest, OutcomeUnknown, QueueError
from qlib.handle import Handle, again, not_sent
from qlib.process import begin_anew_in_children, close_at_exit, forget
from qlib.values import Encode

_LARGEST_BATCH = 10_000  # messages, as the queue takes them
_BATCH_BYTES = 4 * 2**20
_PENDING_BYTES = 4 * _BATCH_BYTES
_BATCHES_TOLD = 100

Store = Callable[[str, list[str], Encoded], range]


class Buffered:
    """Publishes to one topic behind the caller's back, in order; `QPublisher.buffered` makes it.

    Threads may share one: their messages come in the order of their calls. A forked child's begins
    empty: what the parent's had accepted, the parent sends.
    """

    def __init__(
        self, topic: str, encode: Encode, store: Store, linger: float, batch: int, pending: int
    ) -> None:
        """Check the settings; nothing runs before the first message. Raises InvalidRequest."""
        self.topic = name(topic, "a topic's name")
        self._linger = seconds(linger, "linger is a number of seconds from 0 on", lambda s: s >= 0)
        self._most = _within(batch, _LARGEST_BATCH, f"batch lies between 1 and {_LARGEST_BATCH}")
        self._pending = _within(pending, inf, "pending is an integer from 1 on")
        self._encode, self._store = encode, store
        self._closed = self._told = False
        self._begin()
        begin_anew_in_children(self)
        close_at_exit(self)

    def _begin(self) -> None:
        self._lock = Lock()
        self._work, self._room = Condition(self._lock), Condition(self._lock)
        self._batches: deque[Batched] = deque()  # the first one may be under way
        self._filling: Batched | None = None  # the last one, until it is sealed
        self._count = self._size = self._stored = 0
        self._newest: deque[range] = deque(maxlen=_BATCHES_TOLD)
        self._failure: QueueError | None = None
        self._thread: Thread | None = None

    def _forked(self) -> None:
        for batch in self._batches:
            batch.leave()
        self._begin()

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
        """Close it; an exception passes through, with a note when not everything is stored."""
        try:
            self.close()
        except QueueError as failure:
            if error is None:
                raise
            error.add_note(f"{self!r}: {failure}")

    def publish(
        self, payload: Any, key: str | None = None, headers: dict[str, Any] | None = None
    ) -> Handle:
        """Accept one message, and return a handle of its offset.

        It is encoded before this returns: the payload may be changed then. Waits while `pending`
        messages, or about 16 MiB of them, are not answered. Raises InvalidRequest when it is not
        JSON, holds U+0000 or the buffer is closed, MessageTooLarge, and NotSent when a batch has
        failed. What only the queue finds, such as JSON of more than 64 levels, fails its batch.
        """
        text = self._encode(payload, "payload")
        size, more = len(text), None
        if key is not None or headers is not None:
            more = beside(self._encode, key, headers)
            size += len(more[0]) + len(more[1])
        if size > LARGEST_MESSAGE or NUL in text or more:
            check(text, more)
        with self._lock:
            batch = self._filling
            if batch is None or batch.size + size > _BATCH_BYTES:
                batch = self._with_room(size)
            index = len(batch.payloads)
            batch.payloads.append(text)
            batch.size += size
            if more:
                batch.beside[index] = more
            if not index:
                self._begin_to_fill(batch)
            if index + 1 >= batch.most:
                self._seal(batch)
            return Handle(batch, index)

    def flush(self) -> None:
        """Send what was accepted so far now, and wait until all of it is answered.

        Each batch takes at most the publisher's `timeout`. Raises the error of the first batch that
        failed, whose text counts the messages that are stored, that are in doubt or refused, and
        that were not sent; `published` holds the offsets of the newest that are stored.
        """
        with self._lock:
            newest = self._batches[-1] if self._batches else None
            if newest:
                self._seal(newest)
        if newest:
            newest.wait()
        if self._failure:
            raise again(self._failure)

    def close(self) -> None:
        """Flush, and end the thread; raises what `flush` does. Closing again does nothing.

        Ctrl-C breaks the wait off: what is pending then is sent as long as the process lives.
        """
        forget(self)  # whoever breaks this off does not want to wait again
        with self._lock:
            self._closed = True
            if self._filling:
                self._seal(self._filling)
            self._work.notify()
            self._room.notify_all()
        if self._thread:
            self._thread.join()
        told, self._told = self._told, True
        if self._failure and not told:
            raise again(self._failure)

    def _with_room(self, size: int) -> Batched:
        """Wait for a batch with room for one more message, with the lock; raise when none may come."""
        while True:
            batch = self._filling
            if batch and batch.size + size <= _BATCH_BYTES:
                return batch
            if batch:
                self._seal(batch)
            if self._failure:
                raise not_sent(self._failure)
            if self._closed:
                raise InvalidRequest(f"{self!r} is closed")
            if self._count < self._pending and self._size < _PENDING_BYTES:
                most = min(self._most, self._pending - self._count)
                return Batched(monotonic() + self._linger, most)
            self._room.wait()

    def _begin_to_fill(self, batch: Batched) -> None:
        if self._thread is None:
            # A daemon: a program that forgets to close it ends, and closes it then.
            self._thread = Thread(target=self._run, name=repr(self), daemon=True)
            self._thread.start()
        self._batches.append(batch)
        self._filling = batch
        self._work.notify()

    def _seal(self, batch: Batched) -> None:
        if not batch.sealed:
            batch.sealed = True
            self._filling = None
            self._count += len(batch.payloads)
            self._size += batch.size
            self._work.notify()

    def _run(self) -> None:
        while batch := self._next():
            self._send(batch)

    def _send(self, batch: Batched) -> None:
        try:
            offsets = self._store(self.topic, *batch.encoded())
        except QueueError as error:
            self._fail(batch, error)
        except BaseException as error:
            unexpected = OutcomeUnknown(f"{error!r:.200}")
            unexpected.__cause__ = error
            self._fail(batch, unexpected)
        else:
            self._settle(batch, offsets)

    def _next(self) -> Batched | None:
        """Wait for a batch that is due; return None when none will come any more."""
        with self._lock:
            while True:
                first = self._batches[0] if self._batches else None
                left = first.due - monotonic() if first else None
                if first and (first.sealed or first.due <= monotonic()):
                    self._seal(first)
                    return first
                if first is None and (self._closed or self._failure):
                    return None
                self._work.wait(left)

    def _settle(self, batch: Batched, offsets: range) -> None:
        with self._lock:
            self._count -= len(offsets)
            self._size -= batch.size
            self._stored += len(offsets)
            self._newest.append(offsets)
            batch.settle(offsets)
            self._batches.popleft()  # last: in a child that is forked meanwhile, it is done or in here
            self._room.notify_all()

    def _fail(self, batch: Batched, error: QueueError) -> None:
        """Say what became of all that is pending: of what comes after a failed batch, nothing is sent."""
        with self._lock:
            later = list(self._batches)[1:]
            batch.explain(error, self._stored, sum(len(other.payloads) for other in later))
            error.published = joined(list(self._newest))
            self._failure = error.with_traceback(None)  # which would keep a connection
            batch.settle(range(0), error)
            for other in later:
                other.settle(range(0), not_sent(error))
            self._batches.clear()
            self._filling = None
            self._room.notify_all()


def _within(value: int, most: float, rule: str) -> int:
    found = integer(value, rule)
    if not 1 <= found <= most:
        raise InvalidRequest(f"{rule}, not {found}")
    return found
