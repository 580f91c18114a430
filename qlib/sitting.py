"""How the threads of a worker sit through an outage: together, and not for long when work stops."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from qlib.attempts import Outage
from qlib.consumer import Patience
from qlib.errors import QueueError

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger("qlib")


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
class Told:
    """Whether the log has been told of an outage since the last call that went well."""

    already: bool = False


@dataclass
class Sitting(Patience[R]):
    """Patience that ends soon when `is_left`; those with one `told` tell of an outage once."""

    is_left: Callable[[], bool]
    leaving: float
    told: Told

    def through(self, act: Callable[[Outage], T]) -> T:
        """Do it until it is answered, and return that; raise what no patience helps against."""
        result = super().through(act)
        self.told.already = False
        return result

    def _outage(self) -> Outage:
        most = inf if self.given is None else self.given
        return Shortened(most, is_left=self.is_left, leaving=self.leaving)

    def _teller(self, outage: Outage) -> Callable[[QueueError], None]:
        def tell(error: QueueError) -> None:
            if not self.told.already and self._goes_on(error, outage):
                self.told.already = True
                _log.warning("%r goes on when the queue answers again: %s", self.reader, error)

        return tell
