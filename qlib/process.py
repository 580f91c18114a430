"""What a process does first when it was forked, and last when it ends."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from multiprocessing.util import Finalize, register_after_fork
from typing import Any, Protocol, Self, TypeVar
from weakref import WeakSet


class Closing(Protocol):
    """What is closed when the interpreter ends, if nobody has done so."""

    def close(self) -> None:
        """Give up what is held."""


class Heritable(Protocol):
    """What a forked child has its own one of: a lock in here may be held by a thread that is not there."""

    def anew(self) -> Self:
        """Return the child's; what waits for this one in the child is released."""


Thing = TypeVar("Thing", bound=Heritable)


class OfProcess(dict[int, Thing]):
    """What belongs to a process, under its id: `it[getpid()]`; a forked child's is made anew.

    The hook below does so at once, but a fork that is made in C calls none.
    """

    # each is one of its own, whatever is in it
    __eq__ = object.__eq__
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __init__(self, thing: Thing) -> None:
        """Begin with the one of this process."""
        super().__init__({os.getpid(): thing})
        _inherited.add(self)

    def __missing__(self, process: int) -> Thing:
        """Put the child's in the place of its parent's."""
        for other, thing in list(self.items()):
            if other != process:
                self.setdefault(process, thing.anew())  # threads agree on one
                self.pop(other, None)
        return self[process]


_inherited: WeakSet[OfProcess[Any]] = WeakSet()
_open: WeakSet[Closing] = WeakSet()

_log = logging.getLogger("qlib")


def close_at_exit(it: Closing) -> None:
    """Have `it.close()` called when the interpreter ends; the log tells of an error."""
    _open.add(it)


def forget(it: Closing) -> None:
    """Leave it alone when the interpreter ends."""
    _open.discard(it)


def _forked() -> None:
    for it in list(_inherited):
        it[os.getpid()]


def _exiting() -> None:
    for it in list(_open):
        try:
            it.close()
        except Exception as error:  # each has its turn
            _log.error("%r was not closed, and not all of it is stored: %s", it, error)


def _exiting_early(_: object = None) -> None:
    # A process of multiprocessing ends without `atexit`.
    Finalize(None, _exiting, exitpriority=0)


atexit.register(_exiting)
_exiting_early()
register_after_fork(_exiting, _exiting_early)  # which begins with none
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forked)
