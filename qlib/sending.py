"""Batches on their way to the server, one at a time: the next one is made while it is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread

from qlib import batches
from qlib.batches import Encoded, Rows
from qlib.errors import QueueError

Store = Callable[[Encoded], range]

# Encoding holds the interpreter's lock: without a head start, the request would wait for its end.
_HEAD_START = 0.0005  # seconds


def store_in_order(rows: Iterable[Rows], store: Store) -> Sequence[int]:
    """Store the rows in batches, and return their offsets, as `QPublisher.publish_many` says."""
    line = _Line(store)
    try:
        line.store(rows)
    except QueueError as error:
        error.published = batches.joined(line.stored)
        if line.stored:
            error.add_note(f"publish_many had stored {batches.told(line.stored)}")
        raise
    except BaseException as error:
        doubt = "; the batch under way may be stored, too" if line.is_in_doubt else ""
        error.add_note(f"publish_many had stored {batches.told(line.stored)}{doubt}")
        raise
    finally:
        line.end()
    return batches.joined(line.stored)


class _Line:
    """The batches of one call: what is `stored`, and whether one was sent that may be stored.

    The caller's thread draws and encodes the rows, and the other one sends. So generators and
    `default` run where they always did, and Ctrl-C need not wait for the server.
    """

    def __init__(self, store: Store) -> None:
        self.stored: list[range] = []
        self.is_in_doubt = False
        self._is_awaited = False  # from the thread
        self._store = store
        self._ended = False
        self._sending: Thread | None = None
        self._batches: SimpleQueue[Encoded | None] = SimpleQueue()
        self._answers: SimpleQueue[range | BaseException] = SimpleQueue()

    def store(self, rows: Iterable[Rows]) -> None:
        try:
            for batch in batches.split(self._drawn(rows)):
                self._settle()
                if self._ended:  # there is nothing to do meanwhile
                    self.is_in_doubt = True
                    self._keep(self._store(batch))
                else:
                    self._send(batch)
        except Exception:
            self._settle()  # an error of the batch comes before one of the rows behind it
            raise

    def _drawn(self, rows: Iterable[Rows]) -> Iterator[Rows]:
        for row in rows:
            if self._is_awaited and not self._answers.empty():
                self._settle()  # if it failed, nobody waits for rows that may be long in coming
            yield row
        self._ended = True

    def _send(self, batch: Encoded) -> None:
        if self._sending is None:
            # A daemon, so that nobody who was interrupted waits for it.
            thread = Thread(target=self._run, name="qlib.publish_many", daemon=True)
            thread.start()
            self._sending = thread
        self.is_in_doubt = self._is_awaited = True
        self._batches.put(batch)
        self._settle(_HEAD_START)

    def _settle(self, timeout: float | None = None) -> None:
        """Wait until the batch under way is answered, if there is one, or until the time is over."""
        if not self._is_awaited:
            return
        try:
            answer = self._answers.get(timeout=timeout)
        except Empty:
            return
        self._is_awaited = False
        try:
            if isinstance(answer, BaseException):
                raise answer
            self._keep(answer)
        finally:
            del answer  # its traceback leads back to here

    def _keep(self, offsets: range) -> None:
        self.stored.append(offsets)
        self.is_in_doubt = False  # last: Ctrl-C may come between

    def end(self) -> None:
        """Let the thread end, and wait for that if nothing is under way."""
        self._batches.put(None)
        if self._sending is not None and not self._is_awaited:
            self._sending.join()

    def _run(self) -> None:
        while batch := self._batches.get():
            try:
                self._answers.put(self._store(batch))
            except BaseException as error:
                self._answers.put(error)
