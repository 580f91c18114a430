"""What a test process starts ends with it, however it ends: a reaper of its own sees to that."""

import atexit
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

PREFIX = f"/tmp/queue-test-{os.getpid()}-"


def short_directory() -> "tempfile.TemporaryDirectory[str]":
    """Make a directory with a short path: pytest's own are long, and closed again by others."""
    return tempfile.TemporaryDirectory(prefix=Path(PREFIX).name, dir=Path(PREFIX).parent)


def start_reaper() -> None:
    """Have all ended that is started from now on, when this process has gone; see reaper.py."""
    mark = os.environ["TESTED_BY"] = uuid4().hex
    reaper = subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).with_name("reaper.py")), mark, PREFIX],
        stdin=subprocess.PIPE,
        env={},  # not our mark
        start_new_session=True,  # out of the reach of Ctrl-C
    )
    pipe = reaper.stdin
    assert pipe
    os.register_at_fork(after_in_child=pipe.close)  # or a child would hold it open

    def reap() -> None:
        pipe.close()
        reaper.wait()

    atexit.register(reap)
