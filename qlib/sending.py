"""Batches on their way to the server, one at a time: the next one is made while it is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from threading import Thread

from qlib import batches
from qlib.batches import Encoded, Rows
from qlib.errors import QueueError

Store = Callable[[Encoded], range]


def store_in_order(rows: Iterable[Rows], store: Store) -> Sequence[int]:
    """Store the rows in batches, and return their offsets, as `QPublisher.publish_many` says."""
    line = _Line(store)
    try:
        line.store(rows)
    except QueueError as error:
        error.published = batches.joined(line.stored)
        raise
    except BaseException as error:
        doubt = "; the batch under way may be stored, too" if line.under_way else ""
        error.add_note(f"publish_many had stored {batches.told(line.stored)}{doubt}")
        raise
    return batches.joined(line.stored)


class _Line:
    """The batches of one call: what is `stored`, and the one that is `under_way` in a thread."""

    def __init__(self, store: Store) -> None:
        self.stored: list[range] = []
        self.under_way: _UnderWay | None = None
        self._store = store
        self._ended = False

    def store(self, rows: Iterable[Rows]) -> None:
        # The caller's thread draws and encodes the rows, and a thread of ours sends: generators and
        # `default` run where they always did, and Ctrl-C need not wait for the server.
        try:
            for batch in batches.split(self._drawn(rows)):
                self._settle()
                if self._ended:  # there is nothing to do meanwhile
                    self.stored.append(self._store(batch))
                else:
                    self.under_way = _UnderWay(partial(self._store, batch))
        except Exception:
            self._settle()  # an error of the batch comes before one of the rows behind it
            raise

    def _drawn(self, rows: Iterable[Rows]) -> Iterator[Rows]:
        for row in rows:
            if self.under_way is not None and self.under_way.failed:
                self._settle()  # the next row may be long in coming
            yield row
        self._ended = True

    def _settle(self) -> None:
        if (sent := self.under_way) is not None:
            sent.join()
            self.under_way = None
            self.stored.append(sent.answer())


class _UnderWay(Thread):
    """One batch that is being sent; a daemon, so that nobody waits for it who was interrupted."""

    def __init__(self, act: Callable[[], range]) -> None:
        super().__init__(name="qlib.publish_many", daemon=True)
        self._act = act
        self._offsets = range(0)
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._offsets = self._act()
        except BaseException as error:
            self._error = error

    @property
    def failed(self) -> bool:
        """Tell whether it is known by now that it was not stored, or may not have been."""
        return self._error is not None

    def answer(self) -> range:
        """Return the offsets, or raise what was wrong; for once, when the thread has ended."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # the traceback leads back to here
        return self._offsets
