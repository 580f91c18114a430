"""A checkout of this project, this one or another: its server and its client, each in processes of its own.

What lies where differs from one commit to the next. So of another checkout nothing is imported here: its server is
used over HTTP and SQL, and its client does what it is told through a pipe (see client.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qlib.lab.stack.guarded import Guarded, environment, free_port

VARIABLE = "BENCH_BASE"

_CLIENT = Path(__file__).with_name("client.py")
_NEEDED = ("server/__main__.py", "qlib/__init__.py", "init")


class NoCheckoutError(ValueError):
    """BENCH_BASE cannot be used; the message says why."""


class ClientError(RuntimeError):
    """A client did not do what it was told; the message is its traceback."""


@dataclass(frozen=True)
class Server:
    """A server that runs: its address, and the DSN of the database behind it."""

    url: str
    dsn: str


@dataclass(frozen=True)
class Checkout:
    """The directory of a checkout."""

    path: Path

    @property
    def commit(self) -> str:
        """What git calls the commit; with -dirty behind it when files were changed."""
        command = ["git", "-C", str(self.path), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"

    @contextmanager
    def serving(self) -> Iterator[Server]:
        """Run its server, with an embedded PostgreSQL of its own, durable, until the end of the `with`."""
        private = Path(tempfile.mkdtemp(prefix="queue-bench-"))
        data, port = private / "data", free_port()
        url = f"http://127.0.0.1:{port}"
        command = [self._python, "-m", "server", "--port", str(port), "--data", str(data)]
        server = Guarded(
            ["sh", "-c", 'cd "$0" && exec "$@"', str(self.path), *command],
            f"{url}/health",
            f"queue server on {url}",
            log=private / "log",
            environment=environment(),
            data=str(data),
            private=str(private),
        )
        try:
            yield Server(url, (data / "dsn").read_text().strip())
        finally:
            server.stop()

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Run the process of its client until the end of the `with`."""
        process = subprocess.Popen(
            [self._python, "-P", str(_CLIENT)],  # -P: what lies beside that file is not imported
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.path,
            env=environment() | {"PYTHONPATH": str(self.path)},
        )
        with process:  # its end closes the pipe, which ends the process
            yield Client(self, process)

    @property
    def _python(self) -> str:
        own = self.path / ".venv" / "bin" / "python"
        return str(own) if own.exists() else sys.executable


class Client:
    """The process of a client, and what it has done."""

    def __init__(self, checkout: Checkout, process: subprocess.Popen[str]) -> None:
        self._process = process
        imported = Path(self._answer()["qlib"])
        assert imported.is_relative_to(checkout.path), f"{imported} is not of {checkout.path}"

    def do(self, work: str, url: str, topic: str, **order: int) -> dict[str, float]:
        """Let it do the work of a round; return the `cpu` and the `wall` seconds of that.

        The works and their orders are those of client.py. Raises ClientError.
        """
        assert self._process.stdin
        order_of_all = {"work": work, "url": url, "topic": topic, **order}
        self._process.stdin.write(json.dumps(order_of_all) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it has ended"}
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer


def this() -> Checkout:
    """Return the checkout that this file is of."""
    return Checkout(Path(__file__).resolve().parents[2])


def base() -> Checkout | None:
    """Return the checkout that BENCH_BASE names, or None. Raises NoCheckoutError."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    path = Path(named).resolve()
    missing = [name for name in _NEEDED if not (path / name).exists()]
    if missing:
        raise NoCheckoutError(
            f"{VARIABLE}: {path} is no checkout of this project: there is no {missing[0]} in it"
        )
    return Checkout(path)
