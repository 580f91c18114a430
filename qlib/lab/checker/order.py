"""Whether the offsets are in the order of the publishes, and those of a batch in a row."""

from __future__ import annotations

from qlib.lab.checker.log import Log
from qlib.lab.checker.verdict import Findings
from qlib.lab.checker.writes import Write, span


def check_order(log: Log, findings: Findings) -> None:
    """Find batch-order and nonmonotonic-send."""
    placed = [(write, offsets) for write in log.writes if (offsets := _offsets(write, log))]
    for write, offsets in placed:
        row = tuple(range(offsets[0], offsets[0] + len(offsets)))
        if offsets != row or write.outcome == "unknown" and not _is_whole(write, row, log):
            where = ", ".join(map(str, offsets[:10])) + (" …" if len(offsets) > 10 else "")
            torn = "" if offsets != row else ", but not whole"
            findings.add("batch-order", f"the {write} is in {log.topic} at {where}{torn}")
    _check_sends(placed, log, findings)


def _offsets(write: Write, log: Log) -> tuple[int, ...]:
    """Return where a write was put, as it was told, or else as one of its values was seen."""
    if write.outcome == "unknown":
        for n, value in enumerate(write.values):
            places = log.places.get(value, ())
            if len(log.writers[value]) == 1 and len(places) == 1:
                return tuple(range(places[0] - n, places[0] - n + len(write.values)))
    return write.offsets


def _is_whole(write: Write, row: tuple[int, ...], log: Log) -> bool:
    """Return whether a batch in doubt is there in all places that were seen, or none."""
    begin = log.final.floor or 1 if log.final else row[-1] + 1
    last = max(log.at)
    return all(
        log.at.get(offset) == value
        for offset, value in zip(row, write.values, strict=True)
        if begin <= offset <= last
    )


def _check_sends(placed: list[tuple[Write, tuple[int, ...]]], log: Log, findings: Findings) -> None:
    """Sweep over the starts, with the highest offset of all that had ended before."""
    ended = sorted((p for p in placed if p[0].outcome == "ok"), key=lambda p: p[0].end)
    passed, highest = 0, 0
    before: Write | None = None
    for write, offsets in sorted(placed, key=lambda p: p[0].start):
        while passed < len(ended) and ended[passed][0].end < write.start:
            earlier, given = ended[passed]
            if max(given) > highest:
                highest, before = max(given), earlier
            passed += 1
        # The same offset given out twice has names of its own.
        if before is not None and highest > min(offsets):
            told = f"the {before} to {log.topic} had returned {span(before.offsets)}"
            findings.add(
                "nonmonotonic-send", f"{told} before the {write} began, which got {min(offsets)}"
            )
