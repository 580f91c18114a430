"""One topic, put together from all that was sent to it and all that was seen of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from math import inf

from qlib.lab.checker.prefix import Highest
from qlib.lab.checker.verdict import Findings, shown
from qlib.lab.checker.writes import Write
from qlib.lab.history.operation import Operation

_READS = ("fetch", "lease", "browse", "final_read", "final_work")


class Log:
    """What is known of one topic.

    `reads` are those that were answered, by their ends, and `final` the last final read. `at` has
    the value at each offset where the right one was seen, `altered` the offsets where a wrong one
    was. `resets` are those that may have happened. `returned` tells which write and value each
    offset was given out for, `shared` which offsets were given out again, and for what.
    `anywhere` maps each value that was ever sent to a topic that it was sent to.
    """

    def __init__(
        self,
        topic: str,
        operations: Sequence[Operation],
        writes: Sequence[Write],
        anywhere: Mapping[str, str],
        findings: Findings,
    ) -> None:
        """Put the topic together, and report every value that has no business where it was seen."""
        self.topic, self.operations, self.writes = topic, operations, writes
        reads = (o for o in operations if o.kind in _READS and o.outcome == "ok")
        self.reads = sorted(reads, key=lambda o: o.end)
        self.final = next((o for o in reversed(self.reads) if o.kind == "final_read"), None)
        self.resets = [o for o in operations if o.kind == "reset" and o.outcome != "fail"]
        self.writers = _writers(writes)
        self.returned: dict[int, tuple[Write, str]] = {}
        self.shared: list[tuple[int, Write, str]] = []
        self._give_out()
        self.at: dict[int, str] = {}
        self.altered: set[int] = set()
        self._anywhere, self._findings = anywhere, findings
        for offset, value, read in _sightings(self.reads):
            self._see(offset, value, read)

    @cached_property
    def offsets(self) -> list[int]:
        """The offsets where there was a message: seen, or given out and not lost; ascending."""
        return sorted({*self.at, *self.returned} - {offset for offset, _, _ in self.missing})

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """The offsets where each value was seen, ascending."""
        found: dict[str, list[int]] = defaultdict(list)
        for offset, value in sorted(self.at.items()):
            found[value].append(offset)
        return found

    @cached_property
    def before_in_key(self) -> dict[int, int]:
        """The message before each one in its key, where one was seen."""
        keys: dict[int, str | None] = {}
        for read in self.reads:
            keys.update(zip(read.offsets, read.keys, strict=False))
        last: dict[str, int] = {}
        found: dict[int, int] = {}
        for offset, key in sorted(keys.items()):
            if key is not None:
                if key in last:
                    found[offset] = last[key]
                last[key] = offset
        return found

    @cached_property
    def missing(self) -> list[tuple[int, Write, str]]:
        """What was to be in the final read and is not: offset, write and value."""
        if self.final is None:
            return []
        found = dict(zip(self.final.offsets, self.final.values, strict=True))
        floor = self.final.floor or 0
        return [
            (offset, write, value)
            for write in self.writes
            if write.end < self.final.start
            for offset, value in zip(write.offsets, write.values, strict=True)
            if offset >= floor and found.get(offset) != value
            # An altered value in its place is called corrupt.
            if offset not in found or found[offset] in self._anywhere
        ]

    @cached_property
    def visible(self) -> Highest[int]:
        """The last offset that must be seen by a time: its publish had returned, nor was it lost."""
        lost = {id(write) for _, write, _ in self.missing}
        kept = (write for write in self.writes if write.offsets and id(write) not in lost)
        return Highest((write.end, max(write.offsets)) for write in kept)

    @cached_property
    def possible(self) -> Highest[int]:
        """The last offset that can exist by a time: its publish had begun."""
        sent = [(w.start, max(w.offsets)) for w in self.writes if w.offsets]
        seen = [(self.begun(value), offset) for offset, value in self.at.items()]
        return Highest([*sent, *seen, *((-inf, offset) for offset in self.altered)])

    def begun(self, value: str) -> float:
        """Return when the first publish of a value began that may have stored it."""
        return min((w.start for w in self.writers[value] if w.outcome != "fail"), default=-inf)

    def _give_out(self) -> None:
        for write in self.writes:
            for offset, value in zip(write.offsets, write.values, strict=bool(write.offsets)):
                if offset in self.returned:
                    self.shared.append((offset, write, value))
                else:
                    self.returned[offset] = (write, value)

    def _see(self, offset: int, value: str, read: Operation) -> None:
        name, why = self._fault(offset, value, read)
        known = self.at.get(offset)
        if known is not None and name in ("", "future-read"):
            name, why = "inconsistent-offsets", f"where {shown(known)} was seen"
        if name:
            place = f"{seen_by(read)} of {self.topic} shows {shown(value)} at {offset}"
            self._findings.add(name, f"{place}, {why}")
        if name not in ("", "future-read", "inconsistent-offsets"):
            self.altered.add(offset)
        elif known is None or read is self.final:
            self.at[offset] = value

    def _fault(self, offset: int, value: str, read: Operation) -> tuple[str, str]:
        if value not in self.writers:
            if value in self._anywhere:
                return "wrong-topic", f"which was published to {self._anywhere[value]}"
            if offset in self.returned:
                own = shown(self.returned[offset][1])
                return "corrupt", f"which nobody sent, where the publish of {own} was stored"
            return "phantom", "which nobody sent"
        if all(write.outcome == "fail" for write in self.writers[value]):
            return "aborted-read", "whose publish had failed"
        if self.begun(value) > read.end:
            return "future-read", "whose publish began later"
        return "", ""


def _writers(writes: Iterable[Write]) -> dict[str, list[Write]]:
    found: dict[str, list[Write]] = defaultdict(list)
    for write in writes:
        for value in write.values:
            found[value].append(write)
    return found


def _sightings(reads: Iterable[Operation]) -> Iterator[tuple[int, str, Operation]]:
    """Yield each value at each offset once, from the read that ended first."""
    first: dict[int, str] = {}
    others: set[tuple[int, str]] = set()
    for read in reads:
        for offset, value in zip(read.offsets, read.values, strict=True):
            if offset not in first:
                first[offset] = value
                yield offset, value, read
            elif first[offset] != value and (offset, value) not in others:
                others.add((offset, value))
                yield offset, value, read


def seen_by(read: Operation) -> str:
    """Return who read, in words."""
    if read.kind in ("fetch", "lease"):
        return f"a {read.kind} by {read.subscriber}"
    if read.kind == "final_work":
        return f"the list of {read.subscriber}'s dead letters"
    return "the final read" if read.kind == "final_read" else "a browse"
