"""A queue of one's own: a server with its embedded PostgreSQL, started and ended as one thing."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from qlib.lab.stack.guarded import Guarded, environment, on_a_free_port


class Stack:
    """A server on a free port, with an embedded PostgreSQL in a directory.

    Without `data` the directory is private and goes with the stack, messages and all; with one,
    the data stay, and the log is the file `data` + ".log". `port` is the one to listen on, if
    nobody does yet. `url` is the server's address and `dsn`
    a libpq connection string of the database, as its superuser. The constructor returns when the
    server answers; it raises StackError after 120 seconds, or with the end of the log. The stack
    ends by `stop`, or else with this process, however that ends, in two minutes at most; Ctrl-C
    does not reach it.
    """

    def __init__(self, data: Path | None = None, port: int | None = None) -> None:
        """Start, on another port when somebody is faster to take the chosen one."""
        on_a_free_port(partial(self._start, data), "Address already in use", *filter(None, [port]))

    def _start(self, data: Path | None, port: int) -> None:
        private = "" if data else tempfile.mkdtemp(prefix="queue-lab-")
        data = (data or Path(private, "data")).absolute()
        self.url = f"http://127.0.0.1:{port}"
        self._server = Guarded(
            [sys.executable, "-m", "server", "--port", str(port), "--data", str(data)],
            f"{self.url}/health",
            f"queue server on {self.url}",
            log=data.with_name(data.name + ".log"),
            environment=environment(),
            data=str(data),
            private=private,
        )
        self.dsn = (data / "dsn").read_text().strip()

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return self._server.alive

    def crash(self) -> None:
        """Kill the server and PostgreSQL with SIGKILL; again: nothing happens.

        What was acknowledged is on disk; what was in flight has an unknown outcome. A directory of
        the stack's own stays. Raises StackError when the stack has ended.
        """
        self._server.kill()

    def restart(self) -> None:
        """Start both again after `crash`, on the same data, port and `dsn`.

        Returns when the server answers, hence after the recovery; clients made before go on.
        Raises StackError like the constructor, also when the port was taken meanwhile.
        """
        self._server.restart()

    def stop(self) -> None:
        """End the server and PostgreSQL; a private directory is removed. Again: nothing happens.

        Raises StackError when they do not end within 120 seconds.
        """
        self._server.stop()

    def __enter__(self) -> Stack:
        """Return the stack itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the stack."""
        self.stop()
