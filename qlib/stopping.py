"""When work is to stop: at a signal, or when an event says so."""

from __future__ import annotations

import signal
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, Protocol

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Event(Protocol):
    """What tells that work is to stop, as a threading.Event does."""

    def is_set(self) -> bool:
        """Whether it is."""


class Stop:
    """Whether work is to stop; a context manager that listens to signals in the main thread.

    The first Ctrl-C, and SIGTERM, let work come to an end; Ctrl-C has its usual meaning from then
    on, so a second one ends at once. What is ignored stays ignored.
    """

    def __init__(self, event: Event | None) -> None:
        """Listen to no signal yet."""
        self._event = event
        self._signalled = False
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Return whether work is to stop."""
        return self._signalled or (self._event is not None and self._event.is_set())

    def __enter__(self) -> Stop:
        """Listen, where that can be done."""
        if current_thread() is main_thread():
            before = {number: signal.getsignal(number) for number in _SIGNALS}
            for number, handler in before.items():
                if handler not in (None, signal.SIG_IGN):
                    self._before[number] = handler
                    signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        """Let signals mean what they did."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        # It may come at any step of any code: so no lock may be taken here.
        self._signalled = True
        if number == signal.SIGINT:
            signal.signal(number, self._before[signal.SIGINT])
