"""Contenders against each other, round by round: A B C, B C A, C A B …

A machine is never quiet for long, so absolute figures move; what moves them meets all contenders of
a round alike. So only ratios within a round are compared, and of these the median counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tqdm import tqdm

RATE, P50, P99 = "messages/s", "ms p50", "ms p99"

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Contender:
    """A name, and what does a round's fixed amount of work.

    `work` returns how many messages that were, and the harness takes the time; or it has measured
    itself and returns figures by unit. `before` makes ready what a round needs, untimed.
    """

    name: str
    work: Callable[[], int | Figures]
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Result:
    """What one contender reached in one case, in one unit; `rounds` are in the order measured.

    `ratio` is the median over the rounds of its figure divided by that of `baseline` in the same
    round; None where the baseline has no figure in this unit, or 0.
    """

    part: str
    case: str
    contender: str
    unit: str
    rounds: tuple[float, ...]
    median: float
    ratio: float | None
    baseline: str


def interleave(
    part: str,
    case: str,
    contenders: Sequence[Contender],
    rounds: int,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Result]:
    """Run all contenders `rounds` times, after one round that is not counted; the first is the baseline."""
    figures: dict[str, list[Figures]] = {contender.name: [] for contender in contenders}
    assert len(figures) == len(contenders), "two contenders of one name"
    total = (rounds + warm_up) * len(contenders)
    with tqdm(desc=f"{part}: {case}", total=total, leave=False, disable=None) as bar:
        for number in range(-warm_up, rounds):
            first = number % len(contenders)
            for contender in (*contenders[first:], *contenders[:first]):
                bar.set_postfix_str(contender.name)
                measured = _measured(contender, clock)
                if number >= 0:
                    figures[contender.name].append(measured)
                bar.update()
    baseline = contenders[0].name
    return [
        _result(part, case, name, unit, measured, baseline, figures[baseline])
        for name, measured in figures.items()
        for unit in measured[0]
    ]


def ratio(rounds: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the median of the ratios within each round."""
    return median(a / b for a, b in zip(rounds, baseline, strict=True))


def clocked(calls: Iterable[Callable[[], object]], messages: int = 1) -> Figures:
    """Make the calls, each for so many messages; return their rate and their latencies."""
    seconds = []
    for call in calls:
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return {RATE: messages * len(seconds) / sum(seconds), **percentiles(seconds)}


def percentiles(seconds: Sequence[float]) -> Figures:
    """Return latencies as the figures of a round: the median and the 99th percentile, in ms."""
    ordered = sorted(seconds)
    return {
        unit: 1e3 * ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]
        for unit, percent in ((P50, 50), (P99, 99))
    }


def _measured(contender: Contender, clock: Callable[[], float]) -> Figures:
    contender.before()
    begin = clock()
    done = contender.work()
    seconds = clock() - begin
    return done if isinstance(done, Mapping) else {RATE: done / seconds}


def _result(
    part: str,
    case: str,
    name: str,
    unit: str,
    measured: Sequence[Figures],
    baseline: str,
    theirs: Sequence[Figures],
) -> Result:
    values = tuple(figures[unit] for figures in measured)
    beside = [figures[unit] for figures in theirs if unit in figures]
    compared = ratio(values, beside) if beside and all(beside) else None
    return Result(part, case, name, unit, values, median(values), compared, baseline)
