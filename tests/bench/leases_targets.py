"""What workers were to reach."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench import fanout, leases, leases_http, leases_piled
from tests.bench.messages import HTTP, SQL
from tests.bench.rounds import P50, RATE
from tests.bench.target import Found, Target


def _worked(
    size: int, workers: int, one: str, other: str, unit: str = RATE
) -> Callable[[Found], float]:
    return lambda found: found.ratio(leases.PART, leases.case(size, workers), one, other, unit)


def _piled(name: str) -> Callable[[Found], float]:
    case, base = leases_piled.COST, leases_piled.BASE
    return lambda found: found.ratio(leases.PART, case, name, base, P50)


def _worked_beside_a_snapshot(found: Found) -> float:
    case = leases_piled.HELD
    costs = (
        found.result(leases.PART, case, name, P50).rounds for name in (SQL, leases_piled.WITHOUT)
    )
    return leases_piled.thirds(*costs)


def _woken(found: Found) -> float:
    return found.result(leases.PART, leases.WAKE, HTTP, P50).median


TARGETS = (
    *(
        Target(
            f"leases of {size}, {workers} worker{'s' * (workers > 1)} / pgmq",
            "≥",
            bound,
            _worked(size, workers, SQL, leases.PGMQ),
        )
        for size, bounds in {100: (1.8, 2.5, 3.0), 10: (1.2, 1.2, 1.0), 1: (0.9, 0.8, 0.6)}.items()
        for workers, bound in zip(leases.WORKERS, bounds, strict=True)
    ),
    Target(
        "leases of 10, 16 fused / 16 workers of pgmq",
        "≥",
        1.6,
        _worked(10, 16, leases.FUSED, leases.PGMQ),
    ),
    Target(
        "leases of 1, 16 fused / 16 workers of pgmq",
        "≥",
        1.5,
        _worked(1, 16, leases.FUSED, leases.PGMQ),
    ),
    Target(
        "leases of 1 over HTTP, 16 workers, fused / not fused",
        "≥",
        1.5,
        _worked(1, 16, HTTP, leases_http.UNFUSED),
    ),
    Target(
        "leases of 100: WAL a message / pgmq",
        "≤",
        1 / 40,
        _worked(100, 1, SQL, leases.PGMQ, fanout.WAL),
    ),
    Target("cost of a lease with a backlog of 1,000,000", "≤", 1.2, _piled(leases_piled.BACKLOG)),
    Target("the same, a hole before 900,000 done", "≤", 1.2, _piled(leases_piled.HOLE)),
    Target("the same, 900,000 delayed nacks", "≤", 1.2, _piled(leases_piled.DELAYS)),
    Target(
        "cost of a lease beside an old snapshot, last / first third",
        "≤",
        1.2,
        _worked_beside_a_snapshot,
    ),
    Target("a worker's wake-up after a publish, ms p50", "≤", 3.0, _woken),
)
