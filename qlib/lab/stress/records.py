"""What a run leaves behind: the operations of each process, in a file of its own."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from sys import intern
from typing import Any
from zlib import crc32

from qlib.lab.history.operation import BEGUN, Operation, Recorder

_LONGEST_PADDING = 24  # times eight characters


@contextmanager
def recorder(directory: Path, process: str, *, killed: bool = False) -> Iterator[Recorder]:
    """Give a recorder that writes a file; all is in there when the block is left.

    When the process may be `killed`, all is in there at any time, and what it was at as well.
    """
    with (directory / process).open("wb") as file:

        def keep(operation: Operation) -> None:
            pickle.dump(operation, file)
            if killed:
                file.flush()

        yield Recorder(process, keep, keep if killed else None)


def recorded(directory: Path) -> Iterator[Operation]:
    """Yield the operations of all recorders of a directory, each one's in the order of their ends.

    What was begun is followed by what came of it, unless the process was killed. However often a
    value was seen, it takes memory once.
    """
    for path in sorted(directory.iterdir()):
        with path.open("rb") as file:
            begun = None
            while (operation := _next(file)) is not None:
                begun = operation if operation.error == BEGUN else None
                if not begun:
                    yield replace(operation, values=tuple(map(intern, operation.values)))
            if begun:
                yield begun


def _next(file: Any) -> Operation | None:
    try:
        operation: Operation = pickle.load(file)
    except (EOFError, pickle.UnpicklingError):
        return None  # A process that was killed may have left half of its last one.
    return operation


def payload(publisher: int, n: int) -> dict[str, Any]:
    """Return the one payload that a publisher sends as its message `n`."""
    digest = crc32(b"%d/%d" % (publisher, n))
    return {
        "publisher": publisher,
        "n": n,
        "padding": f"{digest:08x}" * (digest % _LONGEST_PADDING),
    }
