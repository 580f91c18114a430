"""What a buffer has accepted and the queue has not answered: filled by many threads, sent by one.

That one is the buffer's own; it waits for an answer before it sends the next batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import TIMEOUT_MAX, Condition, Lock, Thread, current_thread
from time import monotonic
from typing import NamedTuple

from qlib.batched import BATCH_BYTES, Batched, Beside
from qlib.batches import joined
from qlib.errors import InvalidRequest, OutcomeUnknown, QueueError
from qlib.handle import Handle, bare, not_sent

_PENDING_BYTES = 4 * BATCH_BYTES
_BATCHES_TOLD = 100


class Settings(NamedTuple):
    """Whose messages they are, who stores a batch, how long one lingers, and how many may come."""

    owner: str
    store: Callable[[Batched], range]
    linger: float
    batch: int
    pending: int


class Pending:
    """Batches in order: the first one may be under way, and the last one, being filled.

    A signal may break off what a caller does at any step; so a message is in a batch before the
    batch is among them, and none is sent without its key.
    """

    def __init__(self, settings: Settings) -> None:
        """Begin with no message; nothing runs before the first one."""
        self.failure: QueueError | None = None
        self._settings = settings
        self._closed = False
        self._lock = Lock()
        self._work, self._room = Condition(self._lock), Condition(self._lock)
        self._batches: deque[Batched] = deque()
        self._filling: Batched | None = None
        self._count = self._size = self._stored = 0  # count and size of what is sealed
        self._newest: deque[range] = deque(maxlen=_BATCHES_TOLD)
        self._is_started = False
        self._sender: Thread | None = None

    def anew(self) -> Pending:
        """Return what a forked child goes on with; what is in here is left to its parent."""
        for batch in list(self._batches):
            batch.leave()
        other = Pending(self._settings)
        other._closed = self._closed
        return other

    def accept(self, text: bytes, more: Beside | None, size: int) -> Handle:
        """Take a message, as soon as there is room; raise what `Buffered.publish` does."""
        with self._lock:
            batch = self._filling
            if batch is None or not batch.takes(size):
                batch = self._with_room(size)
            index = len(batch.payloads)
            if more:
                batch.beside[index] = more
            elif batch.beside:  # of a message that was broken off here
                batch.beside.pop(index, None)
            batch.size += size
            batch.payloads.append(text)
            if not index:
                self._begin_to_fill(batch)
            if index + 1 >= batch.most:
                self._seal(batch)
            return Handle(batch, index)

    def flush(self) -> None:
        """Have all sent that is in here, and wait until it is answered."""
        with self._lock:
            for batch in self._batches:
                self._seal(batch)
            newest = self._batches[-1] if self._batches else None
        if newest:
            newest.wait()

    def close(self) -> None:
        """Flush, take no message any more, and wait for the end of the thread."""
        with self._lock:
            self._closed = True
            self._work.notify()
            self._room.notify_all()
        try:
            self.flush()
            if self._sender:
                self._sender.join()
        except BaseException as error:
            left = sum(len(batch.payloads) for batch in list(self._batches))
            error.add_note(f"{self._settings.owner}: messages without an answer: {left}")
            raise

    def _with_room(self, size: int) -> Batched:
        """Wait for a batch with room for one more message, with the lock; raise when none may come."""
        while True:
            batch = self._filling
            if batch and batch.takes(size):
                return batch
            if batch:
                self._seal(batch)
            if self.failure:
                raise not_sent(self.failure)
            if self._closed:
                raise InvalidRequest(f"{self._settings.owner} is closed")
            left = self._settings.pending - self._count
            if left > 0 and self._size < _PENDING_BYTES:
                most = min(self._settings.batch, left)
                return Batched(monotonic() + self._settings.linger, most)
            self._room.wait()

    def _begin_to_fill(self, batch: Batched) -> None:
        if not self._is_started:
            # A daemon: a program that forgets to close it ends, and closes it then.
            Thread(target=self._run, name=self._settings.owner, daemon=True).start()
            self._is_started = True  # else the message was not accepted, and the next one tries
        self._work.notify()
        self._batches.append(batch)
        self._filling = batch

    def _seal(self, batch: Batched) -> None:
        if not batch.sealed:
            batch.sealed = True
            if self._filling is batch:
                self._filling = None
            self._count += len(batch.payloads)
            self._size += batch.size
            self._work.notify()

    def _run(self) -> None:
        """Send what comes; whatever ends that is the failure of all that is pending."""
        with self._lock:
            if self._sender:
                return  # a signal made it look as if that one had not started
            self._sender = current_thread()
        try:
            while batch := self._next():
                self._settle(batch, self._settings.store(batch))
        except QueueError as error:
            self._fail(error)
        except BaseException as error:
            unexpected = OutcomeUnknown(f"{error!r:.200}")
            unexpected.__cause__ = error
            self._fail(unexpected)

    def _next(self) -> Batched | None:
        """Wait for a batch that is due; return None when none will come any more."""
        with self._lock:
            while True:
                first = self._batches[0] if self._batches else None
                left = first.due - monotonic() if first else TIMEOUT_MAX
                if first and (first.sealed or left <= 0):
                    self._seal(first)
                    return first
                if first is None and self._closed:
                    return None
                self._work.wait(min(left, TIMEOUT_MAX))

    def _settle(self, batch: Batched, offsets: range) -> None:
        with self._lock:
            self._count -= len(offsets)
            self._size -= batch.size
            self._stored += len(offsets)
            self._newest.append(offsets)
            batch.settle(offsets)
            self._batches.popleft()  # last: in a child that is forked meanwhile, it is done or in here
            self._room.notify_all()

    def _fail(self, error: QueueError) -> None:
        """Say what became of all that is pending: of what comes after a failed batch, nothing is sent."""
        with self._lock:
            first, *later = self._batches or [Batched(0, 0)]
            first.explain(error, self._stored, sum(len(other.payloads) for other in later))
            error.published = joined(list(self._newest))
            self.failure = bare(error)
            first.settle(range(0), error)
            for other in later:
                other.settle(range(0), not_sent(error))
            self._batches.clear()
            self._filling = None
            self._room.notify_all()
