"""What the processes of a server take, as Linux counts it: memory, and time of the processors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_PAGE, _TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Process:
    name: str
    parent: int
    seconds: float
    megabytes: float


class Processes:
    """The server at an address of this machine: its first process and all that come from it, but no PostgreSQL."""

    def __init__(self, url: str) -> None:
        self._first = _server(str(urlsplit(url).port))

    def megabytes(self) -> float:
        """Return how much memory they hold (RSS)."""
        return sum(process.megabytes for process in self._all())

    def seconds(self) -> float:
        """Return how long they have kept a processor busy so far."""
        return sum(process.seconds for process in self._all())

    def _all(self) -> Iterator[_Process]:
        found = _processes()
        family = [self._first]
        for member in family:  # it grows meanwhile
            family += [number for number, process in found.items() if process.parent == member]
        return (found[number] for number in family if found[number].name != "postgres")


def _server(port: str) -> int:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            arguments = path.read_text().split("\0")
            if arguments[1:3] == ["-m", "server"] and port in arguments:
                return int(path.parent.name)
    raise LookupError(f"no process serves at port {port}")


def _processes() -> dict[int, _Process]:
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found[int(path.name)] = _process((path / "stat").read_text())
    return found


def _process(stat: str) -> _Process:
    # see proc(5): a name in brackets, which may hold anything, then the fields from the third on
    name, _, rest = stat.partition("(")[2].rpartition(") ")
    fields = rest.split()
    seconds = (int(fields[11]) + int(fields[12])) / _TICK
    return _Process(name, int(fields[1]), seconds, int(fields[21]) * _PAGE / 1e6)
