"""Ends what a test process has started and left behind, when it has gone, however it went.

`python reaper.py MARK PREFIX` waits until its standard input ends. Then all processes end that have
MARK in their environment, which they inherit, or work in a directory whose path begins with PREFIX:
PostgreSQL inherits nothing. Those directories are removed. The guards of the lab are left alone:
they end by themselves, after they have ended what they hold.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PATIENCE = 10.0  # seconds; nothing that is left is worth an orderly end that takes longer
_PROMPTNESS = 0.1
_MOST = 600  # rounds


def main() -> None:
    """Wait, then end all of it."""
    mark, prefix = sys.argv[1:]
    sys.stdin.buffer.read()
    deadline = time.monotonic() + _PATIENCE
    asked: set[int] = set()
    for _ in range(_MOST):
        left = dict(_left(mark.encode(), prefix))
        if not left:
            break
        for pid, number in left.items():
            with suppress(ProcessLookupError):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                elif pid not in asked:
                    os.kill(pid, number)
        asked |= left.keys()
        time.sleep(_PROMPTNESS)
    for directory in Path(prefix).parent.glob(f"{Path(prefix).name}*"):
        shutil.rmtree(directory, ignore_errors=True)


def _left(mark: bytes, prefix: str) -> Iterator[tuple[int, signal.Signals]]:
    """Yield each process that is left, with the signal that it is asked with to end."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or it is not ours
            if b"guard.py" in (path / "cmdline").read_bytes():
                continue
            if mark in (path / "environ").read_bytes():
                yield int(path.name), signal.SIGTERM
            elif os.readlink(path / "cwd").startswith(prefix):
                yield (
                    int(path.name),
                    signal.SIGQUIT,
                )  # PostgreSQL leaves at once, and no memory behind


if __name__ == "__main__":
    main()
