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

from qlib.lab.history.operation import Operation, Recorder

_LONGEST_PADDING = 24  # times eight characters


@contextmanager
def recorder(directory: Path, process: str) -> Iterator[Recorder]:
    """Give a recorder that writes a file; all is in there when the block is left."""
    with (directory / process).open("wb") as file:
        yield Recorder(process, lambda operation: pickle.dump(operation, file))


def recorded(directory: Path) -> Iterator[Operation]:
    """Yield the operations of all recorders of a directory, each one's in the order of their ends.

    However often a value was seen, it takes memory once.
    """
    for path in sorted(directory.iterdir()):
        with path.open("rb") as file:
            while (operation := _next(file)) is not None:
                yield replace(operation, values=tuple(map(intern, operation.values)))


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
