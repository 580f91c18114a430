"""What a target is, and the results that it is computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.bench.rounds import RATE, Result, ratio


class Found:
    """Results, to be asked for; KeyError where something was not measured."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._results = {(r.part, r.case, r.contender, r.unit): r for r in results}

    def result(self, part: str, case: str, contender: str, unit: str = RATE) -> Result:
        """Return one result."""
        return self._results[part, case, contender, unit]

    def ratio(self, part: str, case: str, one: str, other: str, unit: str = RATE) -> float:
        """Return the median of the ratios of two contenders within each round."""
        theirs = self.result(part, case, other, unit)
        return ratio(self.result(part, case, one, unit).rounds, theirs.rounds)


@dataclass(frozen=True)
class Target:
    """A figure that is to be ≥ or ≤ a bound; `needs` names what it takes to measure it, beside time."""

    text: str
    sign: str
    bound: float
    value: Callable[[Found], float]
    needs: str = ""

    def verdict(self, found: Found) -> tuple[float | None, str]:
        """Return the figure, and met, missed or not measured."""
        try:
            value = self.value(found)
        except KeyError:
            return None, f"not measured ({self.needs})" if self.needs else "not measured"
        met = {"≥": value >= self.bound, "≤": value <= self.bound}[self.sign]
        return value, "met" if met else "missed"
