"""How the threads of a worker sit through an outage: not for long when work stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from qlib.attempts import Outage
from qlib.consumer import Patience

R = TypeVar("R")


@dataclass
class Shortened(Outage):
    """An outage that lasts no longer than `leaving` seconds when it `is_left`."""

    is_left: Callable[[], bool] = lambda: False
    leaving: float = 0.0

    @property
    def end(self) -> float:
        """When no call goes on any more."""
        return self.since + self._most(self.most)

    def lasted(self, seconds: float) -> bool:
        """Tell whether it has lasted so long by now, or long enough to leave."""
        return super().lasted(self._most(seconds))

    def _most(self, seconds: float) -> float:
        return min(seconds, self.leaving) if self.is_left() else seconds


@dataclass
class Sitting(Patience[R]):
    """Patience that ends after `leaving` seconds of an outage when `is_left`."""

    is_left: Callable[[], bool]
    leaving: float

    def _outage(self) -> Outage:
        most = inf if self.given is None else self.given
        return Shortened(most, is_left=self.is_left, leaving=self.leaving)
