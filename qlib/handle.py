"""What a buffer returns for a message: the offset, as soon as there is one."""

from __future__ import annotations

from copy import copy

from qlib.batched import Batched
from qlib.checks import seconds
from qlib.errors import NotSent, QueueError


class Handle:
    """A message that a buffer has accepted: tells its offset when the queue has stored it."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: Batched, index: int) -> None:
        """Stand for one message of the batch."""
        self._batch = batch
        self._index = index

    def __repr__(self) -> str:
        """Return what is known by now."""
        if not self._batch.done:
            return "<Handle: not answered yet>"
        return f"<Handle: {self._batch.error or f'offset {self._batch.offsets[self._index]}'}>"

    def done(self) -> bool:
        """Tell whether `result` returns or raises at once."""
        return self._batch.done

    def result(self, timeout: float | None = None) -> int:
        """Return the message's offset; wait for it, at most `timeout` seconds when that is given.

        Raises TimeoutError when that was too short, which changes nothing. When the batch of the
        message failed, raises its error, as `QPublisher.publish` does: after OutcomeUnknown it may be
        stored, and `producer` and `sequence` are the batch's. When a batch before it failed, raises
        NotSent.
        """
        if timeout is not None:
            timeout = seconds(timeout, "timeout is a number of seconds from 0 on", lambda s: s >= 0)
        if not self._batch.wait(timeout):
            raise TimeoutError(f"not answered within {timeout} seconds")
        if self._batch.error is not None:
            raise again(self._batch.error)
        return self._batch.offsets[self._index]


def again(error: QueueError) -> QueueError:
    """Return another one of it to raise: in a single one, the tracebacks of all callers would mix."""
    other = copy(error)
    other.__cause__ = error.__cause__
    return other


def not_sent(failure: QueueError) -> NotSent:
    """Return what a failure means for every message after it."""
    error = NotSent(str(failure))
    error.published = failure.published
    error.__cause__ = failure
    return error


def bare(error: QueueError) -> QueueError:
    """Return it without tracebacks, its own and those behind it: their frames keep the messages."""
    errors: list[BaseException | None] = [error]
    for one in errors:
        if one is not None:
            one.__traceback__ = None
            errors += [it for it in (one.__cause__, one.__context__) if it not in errors]
    return error
