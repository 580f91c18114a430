"""Whether what one worker had, or had done, was leased to nobody else meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from qlib.lab.checker.held import Held
from qlib.lab.checker.prefix import Highest
from qlib.lab.checker.verdict import Findings
from qlib.lab.checker.work import Work

_EXACT = 0.002  # seconds; instants are told to the microsecond, and are sums


def check_doubles(work: Work, stood: dict[int, Highest[int]], findings: Findings) -> None:
    """Find double-lease. `stood` has the positions that were told, by epoch and time.

    All instants of leases are by the database's clock alone, whatever ours says: one is made
    `seconds` before it expires. Ours tells only what had ended before another thing began.
    """
    for offset, leases in work.repeated.items():
        _check_message(offset, leases, work, stood, findings)


def _check_message(
    offset: int,
    leases: Sequence[Held],
    work: Work,
    stood: dict[int, Highest[int]],
    findings: Findings,
) -> None:
    before: Held | None = None  # who has it
    done = inf  # since when it is done
    for lease in leases:
        start, end = lease.operation.start, lease.operation.end
        if lease.epoch is None or before is None or before.epoch != lease.epoch:
            before, done = lease, inf
        elif _is_live(before, lease, offset, work):
            what = f"{work.name} had {offset} leased, for {before.ends - lease.since:.3f} s more"
            findings.add("double-lease", f"{what}, when it was leased again")
            before = max(before, lease, key=lambda held: held.ends)
        else:
            over = done < start or offset <= stood[lease.epoch].before(start)
            if over and not work.redriven(offset, -inf, end):
                findings.add("double-lease", f"{offset} of {work.name} was over, and leased again")
            before = lease
        done = min(done, lease.done.get(offset, inf))


def _is_live(held: Held, other: Held, offset: int, work: Work) -> bool:
    """Return whether a lease surely had a message at the instant of a later one."""
    end = other.operation.end
    if held.returned.get(offset, inf) <= end or work.redriven(offset, held.operation.start, end):
        return False
    instant = other.since + _EXACT
    if instant < held.until:
        return work.restarts.survived(held.operation, end)
    return any(
        extend.outcome == "ok"
        and instant < (extend.expires or 0.0)
        and work.restarts.survived(extend, end)
        for extend in held.extends
    )
