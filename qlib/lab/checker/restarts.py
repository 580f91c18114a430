"""What a crash of the database may have undone: what was not waited for on the disk."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from math import inf

from qlib.lab.checker.prefix import Highest
from qlib.lab.history.operation import Operation


class Restarts:
    """When the database may have crashed, and what was on the disk by then.

    A lease, nack or extension does not wait for the disk: it surely is there only once something
    that does was begun after it, and answered.
    """

    def __init__(self, operations: Iterable[Operation], faults: bool) -> None:
        """Take the restarts that were told; with `faults` and none told, it may be at any time."""
        operations = list(operations)
        told = sorted((o.start, o.end) for o in operations if o.kind == "restart")
        self._spans = told or [(-inf, inf)] * faults
        self._ends = [end for _, end in self._spans]
        self._durable = Highest((o.end, o.start) for o in operations if _is_durable(o))

    def survived(self, operation: Operation, time: float) -> bool:
        """Return whether what an operation has done surely was not lost by a crash before a time."""
        for begin, _ in self._spans[bisect_left(self._ends, operation.start) :]:
            if begin > time:
                break
            if self._durable.before(begin) <= operation.end:
                return False
        return True

    def none_since(self, time: float) -> bool:
        """Return whether the database surely has not crashed since a time."""
        return not self._ends or self._ends[-1] < time


def _is_durable(operation: Operation) -> bool:
    # A numbered publish may be a repetition, an ack one of what was done: they write nothing.
    if operation.outcome != "ok":
        return False
    if operation.kind == "publish":
        return operation.sequence is None and bool(operation.offsets)
    return operation.kind == "ack_lease" and bool(operation.count)
