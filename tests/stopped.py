"""A process that stands still for a while: it is there, and answers nobody."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stopped(pid: int | None) -> Iterator[None]:
    """Stop a process; inside the `with` it stands still."""
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
