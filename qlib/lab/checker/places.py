"""Whether every message is where its publisher was told, once, with no hole between them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from qlib.lab.checker.log import Log
from qlib.lab.checker.verdict import Findings, shown
from qlib.lab.checker.writes import Write, span
from qlib.lab.history.operation import Operation


def check_places(log: Log, findings: Findings) -> None:
    """Find lost-write, gap, bad-first-offset, duplicate, and what went wrong with numbers."""
    if log.final is not None:
        _check_lost(log, log.final, findings)
        _check_holes(log, log.final, findings)
        _check_vanished(log, log.final, findings)
    _check_twice(log, findings)
    _check_shared(log, findings)
    _check_numbers(log, findings)


def _check_lost(log: Log, final: Operation, findings: Findings) -> None:
    found = dict(zip(final.offsets, final.values, strict=True))
    last = max(final.offsets, default=0)
    for offset, _, value in log.missing:
        if offset in found:
            instead = f"the final read of {log.topic} has {shown(found[offset])} at {offset}"
        elif offset > last:
            instead = f"the final read of {log.topic} ends at {last}: its tail is lost"
        else:
            instead = f"the final read of {log.topic} has nothing at {offset}, in its middle"
        publish = f"the publish of {shown(value)} returned offset {offset}"
        findings.add("lost-write", f"{publish}, yet {instead}")


def _check_holes(log: Log, final: Operation, findings: Findings) -> None:
    lost = sorted({offset for offset, _, _ in log.missing})
    floor = 1 if final.floor is None else final.floor
    first = min(final.offsets, default=floor)
    for begin, end in _holes(final, floor):
        unexplained = end - begin + 1 - (bisect_right(lost, end) - bisect_left(lost, begin))
        if unexplained and begin < first:
            where = f"{log.topic} begins at {first}, and its floor is {floor}"
            findings.add("bad-first-offset", where)
        elif unexplained:
            hole = span((begin,) if begin == end else (begin, end))
            where = f"the final read of {log.topic} has nothing at {hole}"
            findings.add("gap", where, unexplained)
    if first < floor:
        findings.add("bad-first-offset", f"{log.topic} has {first}, before its floor, {floor}")


def _check_vanished(log: Log, final: Operation, findings: Findings) -> None:
    """Find what was seen and is gone, though its publisher was never told of it."""
    last = max(final.head or 0, max(final.offsets, default=0))
    told = {offset for offset, _, _ in log.missing}
    earlier = (read for read in log.reads if read.end < final.start)
    gone = {offset for read in earlier for offset in read.offsets if offset > last}
    if gone := gone - told - log.altered:
        seen = f"a message was seen at {min(gone)} of {log.topic}"
        findings.add("lost-write", f"{seen}, yet the final read ends at {last}", len(gone))


def _holes(final: Operation, floor: int) -> Iterator[tuple[int, int]]:
    expected = floor
    for offset in sorted(final.offsets):
        if offset > expected:
            yield expected, offset - 1
        expected = max(expected, offset + 1)
    if final.head is not None and final.head >= expected:
        yield expected, final.head


def _check_twice(log: Log, findings: Findings) -> None:
    for value, offsets in log.places.items():
        if len(offsets) == 1:
            continue
        allowed = [write for write in log.writers[value] if write.outcome != "fail"]
        surplus = len(offsets) - len(allowed)
        if surplus > 0 and not any(write.stored_twice for write in allowed):
            numbered = any(write.attempts > 1 for write in allowed)
            what = f"{shown(value)} is in {log.topic} at {', '.join(map(str, offsets))}"
            times = f"though it was published {_times(len(allowed))}"
            findings.add(
                "dedupe-miss" if numbered else "duplicate",
                f"{what}, {times}{' and repeated under its number' if numbered else ''}",
                surplus,
            )


def _check_shared(log: Log, findings: Findings) -> None:
    for offset, write, value in log.shared:
        other, first = log.returned[offset]
        both = f"the publishes of {shown(first)} and {shown(value)} to {log.topic}"
        if write.sequence is not None and other.sequence is not None:
            findings.add("false-dedupe", f"{both}, two numbered ones, both returned {offset}")
        elif value != first:
            findings.add("inconsistent-offsets", f"{both} both returned offset {offset}")


def _check_numbers(log: Log, findings: Findings) -> None:
    stored: dict[tuple[str | None, int], Write] = {}
    for write in log.writes:
        if write.sequence is None or write.outcome != "ok":
            continue
        other = stored.setdefault((write.producer, write.sequence), write)
        if other is not write and not set(other.offsets) & set(write.offsets):
            both = f"the {other} and the {write} to {log.topic}"
            findings.add("dedupe-miss", f"{both} had the same number, and both were stored")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
