"""Holds a server as its child and ends it when whoever asked for it is gone.

`python guard.py DATA PRIVATE COMMAND…` runs the command until its standard input ends. The kernel
of a notebook is killed without a chance to tidy up, but its end of the pipe closes all the same.
Then the command is ended, with a PostgreSQL in DATA unless another server uses it, and the
directory PRIVATE is removed; '' is none. Until then a `k` in the input kills both without a chance
to tidy up, and an `s` starts the command again. Started as a file, not as a module: it needs nothing of
qlib, and starts at once.
"""

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_GRACE = 80.0  # seconds: more than a server takes to finish what is in flight and stop PostgreSQL
_PROMPTNESS = 0.1
_QUITS = 100  # requests to quit before PostgreSQL is killed


def main() -> int:
    """Run the command until it or our input ends; return 0 when it was we who ended it."""
    data, private, *command = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    server = _start(command)
    killed = False
    try:
        while killed or server.poll() is None:
            if not select.select([sys.stdin], [], [], _PROMPTNESS)[0]:
                continue
            order = os.read(sys.stdin.fileno(), 1)
            if not order:
                return 0
            killed = order == b"k"
            if killed:
                _kill(server)
                _end_postgres(Path(data), quits=0)
                print("killed, as asked", flush=True)
            else:
                server = _start(command)
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(server)
        if data:
            _end_postgres(Path(data), _QUITS)
        if private:
            shutil.rmtree(private, ignore_errors=True)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(_GRACE)
    _kill(server)


def _kill(server: subprocess.Popen[bytes]) -> None:
    # The server's own end leaves its worker behind, for a moment or stuck.
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _end_postgres(data: Path, quits: int) -> None:
    """End the PostgreSQL of a server that was killed; what was acknowledged is on disk."""
    with suppress(OSError, ValueError, IndexError), (data / "users.lock").open("rb") as users:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while another server uses it
        pid = int((data / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        for attempt in range(quits + _QUITS):
            if not os.path.samefile(f"/proc/{pid}/cwd", data / "postgres"):
                break
            os.kill(pid, signal.SIGQUIT if attempt < quits else signal.SIGKILL)
            time.sleep(_PROMPTNESS)


if __name__ == "__main__":
    sys.exit(main())
