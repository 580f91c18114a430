"""Whether each read brought an unbroken run, from the right place, as far as there was."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise

from qlib.lab.checker.log import Log, seen_by
from qlib.lab.checker.verdict import Findings
from qlib.lab.history.operation import Operation

_MOST_MESSAGES = 10_000  # the server's own limit
# A fetch stops at 8 MiB with keys and headers, which we do not see: half of it is a good excuse.
_LARGE = 4 * 2**20


def check_reads(log: Log, findings: Findings) -> None:
    """Find what is wrong inside one read, or at its ends, whoever the subscriber is."""
    for read in log.reads:
        _check_run(read, log, findings)
        if read.kind == "fetch":
            _check_begin(read, log, findings)
            _check_reach(read, log, findings)


def _check_run(read: Operation, log: Log, findings: Findings) -> None:
    offsets = read.offsets
    if not offsets or offsets == tuple(range(offsets[0], offsets[0] + len(offsets))):
        return
    who = f"{seen_by(read)} of {log.topic} brought"
    for earlier, later in pairwise(offsets):
        if later <= earlier:
            findings.add("int-nonmonotonic-poll", f"{who} {later} after {earlier}")
            return
    if read.kind in ("final_read", "lease", "final_work"):
        return  # What a final read leaves out is lost, or a gap; what a lease does, others may have.
    for earlier, later in pairwise(offsets):
        if passed := _between(earlier + 1, later - 1, log):
            findings.add("int-poll-skip", f"{who} {later} after {earlier}, without {passed[0]}")
            return


def _check_begin(read: Operation, log: Log, findings: Findings) -> None:
    begin = _begin(read)
    if not read.offsets or begin is None:
        return
    if passed := _between(begin + 1, min(read.offsets) - 1, log):
        who = f"{seen_by(read)} of {log.topic}, after {begin},"
        findings.add("poll-skip", f"{who} began with {min(read.offsets)}, without {passed[0]}")


def _check_reach(read: Operation, log: Log, findings: Findings) -> None:
    begin = _begin(read)
    if begin is None or read.limit is None or len(read.offsets) >= read.limit:
        return
    due = min(log.visible.before(read.start), begin + min(read.limit, _MOST_MESSAGES))
    reached = max(read.offsets, default=begin)
    if reached >= due or _is_large(read, log.at.get(reached + 1, "")):
        return
    who = f"{seen_by(read)} of {log.topic}, after {begin},"
    published = f"though the publish of {due} had returned before"
    if read.offsets:
        findings.add("stale-read", f"{who} ended with {reached}, {published}")
    else:
        findings.add("stale-empty", f"{who} was empty, {published}")


def _begin(read: Operation) -> int | None:
    return read.position if read.offset is None else read.offset


def _between(first: int, last: int, log: Log) -> list[int]:
    """Return the offsets from one to another where there is a message: a hole is not skipped."""
    return log.offsets[bisect_left(log.offsets, first) : bisect_right(log.offsets, last)]


def _is_large(read: Operation, following: str) -> bool:
    return sum(map(len, read.values)) + len(following) > _LARGE
