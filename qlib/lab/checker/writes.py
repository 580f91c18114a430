"""Publishes as writes: the attempts that are one numbered publish, taken together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from qlib.lab.checker.verdict import Findings, shown
from qlib.lab.history.operation import Operation, Outcome


@dataclass(slots=True, eq=False)
class Write:
    """One batch of messages that may be stored once: `attempts` publishes, numbered or only one.

    It did not happen before `start`, and has surely happened by `end`, infinity unless the outcome
    is "ok"; `offsets` is what it was told then, else empty. `stored_twice` says that its attempts
    were told different offsets.
    """

    topic: str
    values: tuple[str, ...]
    producer: str | None
    sequence: int | None
    start: float
    outcome: Outcome = "fail"
    end: float = inf
    offsets: tuple[int, ...] = ()
    attempts: int = 0
    stored_twice: bool = False

    def __str__(self) -> str:
        """Return what was published, in words."""
        more = f" and {len(self.values) - 1:,} more" if len(self.values) > 1 else ""
        return f"publish of {shown(self.values[0])}{more}" if self.values else "publish of nothing"

    def attempt(self, operation: Operation, findings: Findings) -> None:
        """Take in one attempt."""
        self.attempts += 1
        self.start = min(self.start, operation.start)
        if operation.outcome == "ok":
            self._succeed(operation, findings)
        elif operation.outcome == "unknown" and self.outcome == "fail":
            self.outcome = "unknown"

    def _succeed(self, operation: Operation, findings: Findings) -> None:
        if self.outcome == "ok" and operation.offsets != self.offsets:
            both = f"{span(self.offsets)}, and its repetition {span(operation.offsets)}"
            findings.add("dedupe-miss", f"the numbered {self} to {self.topic} returned {both}")
            self.stored_twice = True
            return
        self.outcome, self.offsets = "ok", operation.offsets
        self.end = min(self.end, operation.end)


def writes(operations: Iterable[Operation], findings: Findings) -> list[Write]:
    """Return the writes of a history in the order of their first attempts' ends."""
    found: list[Write] = []
    numbered: dict[tuple[object, ...], Write] = {}
    for o in operations:
        if o.kind != "publish":
            continue
        write = Write(o.topic, o.values, o.producer, o.sequence, o.start)
        if o.sequence is not None:
            # With other values it is another write, and to be refused.
            write = numbered.setdefault((o.topic, o.producer, o.sequence, o.values), write)
        if not write.attempts:
            found.append(write)
        write.attempt(o, findings)
    return found


def span(offsets: tuple[int, ...]) -> str:
    """Return offsets in words."""
    if not offsets:
        return "no offset"
    return f"offset {offsets[0]}" if len(offsets) == 1 else f"offsets {offsets[0]} to {offsets[-1]}"
