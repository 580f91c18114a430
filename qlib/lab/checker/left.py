"""Whether every message was worked on until it was done or dead."""

from __future__ import annotations

from bisect import bisect_right
from math import inf

from qlib.lab.checker.prefix import Highest
from qlib.lab.checker.verdict import Findings
from qlib.lab.checker.work import Work

_LONG = 1.0  # seconds that a lease has to wait, so that it surely finds what there is


def check_left(work: Work, stood: dict[int, Highest[int]], findings: Findings) -> None:
    """Find lost-work and lease-stuck. `stood` has the positions that were told, by epoch and time."""
    begins = work.moves.begins(stood)
    offsets = work.log.offsets
    for epoch, positions in sorted(stood.items()):
        position = positions.before(inf)
        first = bisect_right(offsets, begins[epoch])
        lost = [
            offset
            for offset in offsets[first : bisect_right(offsets, position)]
            if not work.may_be_over(offset, epoch)
        ]
        if lost:
            where = f"the position of {work.name} passed {lost[0]}"
            findings.add(
                "lost-work", f"{where}, which was neither done nor is a dead letter", len(lost)
            )
    _check_stuck(work, findings)


def _check_stuck(work: Work, findings: Findings) -> None:
    final = work.final
    if final is None or final.epoch is None or final.position is None:
        return
    epoch = final.epoch
    looked = max((o.start for o in work.empty if (o.wait or 0.0) >= _LONG), default=0.0)
    if work.moves.low(looked) != epoch or work.moves.high(final.end) != epoch:
        return
    offsets = work.log.offsets
    last = bisect_right(offsets, work.log.visible.before(looked))
    left = [
        offset
        for offset in offsets[bisect_right(offsets, final.position) : last]
        if not work.may_be_over(offset, epoch)
    ]
    stuck = [
        offset
        for offset in left
        if work.free(offset, epoch) < looked and _is_next(offset, epoch, work)
    ]
    if stuck:
        what = f"{stuck[0]} of {work.name} is neither done, dead nor leased"
        findings.add("lease-stuck", f"{what}, yet a lease came back empty", len(stuck))


def _is_next(offset: int, epoch: int, work: Work) -> bool:
    """Return whether a message surely waits for none before it in its key."""
    earlier = work.log.before_in_key.get(offset)
    return work.unordered or earlier is None or work.is_over(earlier, epoch)
