"""A real server process for tests: started, asked, killed and stopped."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from tests.waiting import until

ROOT = Path(__file__).resolve().parents[1]
STARTED = 60.0  # seconds; making an embedded cluster is part of it
STOPPED = 45.0  # a little more than the server grants what is in flight


class ServerProcess:
    """`python -m server` on ``host``, with what it writes in a file.

    ``program`` is the module that is run, out of the tree ``root``. ``settings`` are environment
    variables in lower case: ``database_url``, ``queue_token``. The caller's own settings are kept out.
    """

    def __init__(
        self,
        log: Path,
        *flags: str,
        port: int | None = None,
        host: str = "127.0.0.1",
        program: str = "server",
        root: Path = ROOT,
        **settings: str,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._log = log
        self._program = program
        self._root = root
        self._flags = ["--host", host, "--port", str(self.port), *flags]
        self.settings = {name.upper(): value for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the main process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has written so far."""
        return self._log.read_text()

    @property
    def running(self) -> bool:
        """Whether the main process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; the server may not answer yet."""
        assert not self.running
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("QUEUE_") and name != "DATABASE_URL"
        }
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._program, *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._root,
                env={**inherited, **self.settings},
                start_new_session=True,  # its processes are found by their session
            )

    def ready(self) -> None:
        """Wait until the server is healthy."""
        until(lambda: not self.running or self.healthy(), STARTED)
        assert self.running, self.log

    def healthy(self) -> bool:
        """Whether /health answers 200."""
        try:
            return self.call("GET", "/health").status_code == 200
        except requests.RequestException:
            return False

    def call(
        self, method: str, path: str, body: object = None, **options: Any
    ) -> requests.Response:
        """Send a request on a connection of its own; ``body`` goes as JSON."""
        options = {"timeout": 40.0, "allow_redirects": False, **options}
        with requests.Session() as session:
            session.trust_env = False  # no proxy
            return session.request(method, self.url + path, json=body, **options)

    def worker(self) -> int:
        """Return the id of the process that answers."""
        (found,) = until(lambda: [pid for pid in self.family() if _is_worker(pid)])
        return found

    def family(self) -> list[int]:
        """Return the ids of all processes of this server that live."""
        return [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/stat")
            if _session(path) == self.pid
        ]

    def signal(self, number: int) -> None:
        """Send a signal to the main process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the main process; wait until nothing of the server is left."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Wait until the server has ended, with all of its processes; return its exit code."""
        assert self._process is not None
        code = self._process.wait(STOPPED)
        until(lambda: not self.family())
        return code

    def stop(self) -> int:
        """End the server in an orderly way; return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()


@contextmanager
def serving(server: ServerProcess) -> Iterator[ServerProcess]:
    """Run a server; in the end it must still run, and stop with 0."""
    server.start()
    try:
        server.ready()
        yield server
        assert server.running, server.log
        assert server.stop() == 0, server.log
    finally:
        end(server)


def end(server: ServerProcess) -> None:
    """Leave no process of a server behind, however its test ended."""
    for pid in server.family():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.wait()


def free_port() -> int:
    """Return a port that nobody listens on, below those that the kernel gives to clients."""
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _session(stat: Path) -> int | None:
    """Return the session of a living process; a zombie does not live."""
    try:
        state, _, _, session, *_ = stat.read_text().rpartition(") ")[2].split()
    except (OSError, ValueError):
        return None
    return None if state == "Z" else int(session)


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
