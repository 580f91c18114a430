"""A real child of this process, made by fork while other threads run."""

import ctypes
import os
import select
import signal
import traceback
from collections.abc import Callable

PATIENCE = 20.0


def fork_in_c() -> int:
    """Fork as a library does that is written in C: Python's hooks are not called."""
    return int(ctypes.PyDLL(None).fork())


def in_child(act: Callable[[], object], fork: Callable[[], int] = os.fork) -> str:
    """Do it in a forked child, and return the text of what it returned or of what it raised.

    Raises AssertionError when that takes too long: the child hangs.
    """
    told, tell = os.pipe()
    child = fork()
    if not child:
        try:
            os.write(tell, str(act()).encode())
        except BaseException:
            os.write(tell, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(0)
    os.close(tell)
    try:
        assert select.select([told], [], [], PATIENCE)[0], "the child hangs"
        return os.read(told, 4096).decode()
    finally:
        os.close(told)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
