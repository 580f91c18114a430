"""How a command is ended from outside: by SIGTERM, or by the end of its terminal."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Never


def when_ended(act: Callable[[], Never]) -> None:
    """Call `act` in the main thread at the first SIGTERM or SIGHUP, and ignore all that follow.

    A shell tells its jobs of the terminal's end once more, and that must not cut the tidying short.
    Under nohup the terminal's end is no end.
    """
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)

    def first(number: int, frame: FrameType | None) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        act()

    for number in numbers:
        signal.signal(number, first)


def give_up() -> Never:
    """Leave as on Ctrl-C."""
    raise KeyboardInterrupt
