"""Whether the number of attempts counts the leases of a message."""

from __future__ import annotations

from math import inf

from qlib.lab.checker.held import Held
from qlib.lab.checker.verdict import Findings
from qlib.lab.checker.work import Work


def check_tries(work: Work, findings: Findings) -> None:
    """Find attempts: numbers that leap, stand still, or go beyond the last one.

    What was leased without an answer may hide one each, whoever it was for.
    """
    for offset, leases in work.at.items():
        if len(leases) == 1 and leases[0].attempts[offset] == 1:
            continue  # as it mostly is
        before: Held | None = None
        for lease in leases:
            if (wrong := _wrong(offset, before, lease, work)) is not None:
                what = f"{work.name} had {offset} for attempt {lease.attempts[offset]}"
                findings.add("attempts", f"{what}, {wrong}")
            before = lease


def _wrong(offset: int, before: Held | None, lease: Held, work: Work) -> str | None:
    attempt, end = lease.attempts[offset], lease.operation.end
    if work.max_attempts is not None and attempt > work.max_attempts:
        return f"of {work.max_attempts}"
    if lease.epoch is None or before is not None and before.epoch is None:
        return None
    hidden = work.doubts(end)
    if before is None or before.epoch != lease.epoch:
        return "the first time" if not 1 <= attempt <= 1 + hidden else None
    if work.redriven(offset, before.operation.start, end):
        return None
    last = before.attempts[offset]
    if attempt > last + 1 + hidden:
        return f"after attempt {last}"
    if not work.restarts.survived(before.operation, end):
        return None  # it counts only what a crash has left
    if attempt < last + (not _may_not_count(offset, before, end, work)):
        return f"after attempt {last}"
    return None


def _may_not_count(offset: int, before: Held, end: float, work: Work) -> bool:
    """Return whether a lease may have been given back untried."""
    follows = not work.unordered and before.keys.get(offset) is not None
    return follows or before.untried.get(offset, inf) < end
