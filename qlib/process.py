"""What a process does first when it was forked, and last when it ends."""

from __future__ import annotations

import atexit
import logging
import sys
from typing import Protocol
from weakref import WeakSet

from qlib.errors import QueueError


class Forking(Protocol):
    """What begins anew in a forked child, where a lock may be held by a thread that is not there."""

    def _forked(self) -> None: ...


class Closing(Protocol):
    """What is closed when the interpreter ends, if nobody has done so."""

    def close(self) -> None:
        """Give up what is held."""


_forking: WeakSet[Forking] = WeakSet()
_open: WeakSet[Closing] = WeakSet()

_log = logging.getLogger("qlib")


def begin_anew_in_children(it: Forking) -> None:
    """Have `it._forked()` called first of all in every child that is forked while it lives."""
    _forking.add(it)


def close_at_exit(it: Closing) -> None:
    """Have `it.close()` called when the interpreter ends; the log tells of an error."""
    _open.add(it)


def forget(it: Closing) -> None:
    """Leave it alone when the interpreter ends."""
    _open.discard(it)


def _forked() -> None:
    for it in list(_forking):
        it._forked()


def _exiting() -> None:
    for it in list(_open):
        try:
            it.close()
        except QueueError as error:
            _log.error("%r was not closed, and not all of it is stored: %s", it, error)


atexit.register(_exiting)
if sys.platform != "win32":
    from os import register_at_fork

    register_at_fork(after_in_child=_forked)
