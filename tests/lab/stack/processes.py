"""Which processes have to do with something, as the kernel tells it."""

import os
from contextlib import suppress
from pathlib import Path


def about(*words: str) -> list[int]:
    """Return the processes, but us, whose command line or working directory has one of the words.

    PostgreSQL's write over their command line, but work in the directory of their cluster.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            told = (path / "cmdline").read_bytes().decode(errors="replace")
            told += "\0" + os.readlink(path / "cwd")
        except OSError:  # it has ended, or it is not ours
            continue
        if any(word in told for word in words) and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found


def command(pid: int) -> list[str]:
    """Return a process' command line."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


def environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with."""
    told = Path(f"/proc/{pid}/environ").read_text().split("\0")[:-1]
    return dict(variable.partition("=")[::2] for variable in told)


def ignores(pid: int, number: int) -> bool:
    """Whether a process ignores a signal."""
    return _has(pid, "SigIgn", number)


def awaits(pid: int, number: int) -> bool:
    """Whether a signal is on its way to a process."""
    return _has(pid, "ShdPnd", number)


def children(pid: int) -> dict[int, str]:
    """Return the processes that a process has started, with their programs' names."""
    found = {}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError):  # a thread or a child has ended meanwhile
            for child in path.read_text().split():
                found[int(child)] = Path(f"/proc/{child}/comm").read_text().strip()
    return found


def _has(pid: int, mask: str, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (signals,) = (line.split()[1] for line in lines if line.startswith(f"{mask}:"))
    return bool(int(signals, 16) >> (number - 1) & 1)
