"""Which processes have to do with something, as the kernel tells it."""

import os
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
