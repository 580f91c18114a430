"""Servers that the benchmark starts for itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_STOPPED = 20  # seconds


def program(name: str) -> str | None:
    """Return where a program is: beside our Python, where packages put theirs, or on the PATH."""
    beside = Path(sys.executable).parent
    return shutil.which(name, path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")


@contextmanager
def directory() -> Iterator[Path]:
    """Make a directory, with a path short enough for a socket, that goes in the end."""
    with TemporaryDirectory(prefix="queue-bench-") as path:
        yield Path(path)


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[None]:
    """Run a server until the end of the `with`; what it says goes into a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOPPED)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
