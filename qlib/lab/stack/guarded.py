"""Servers that end when we do, however we do."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import TypeVar

from qlib.connection import FAILURES, Session

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[3]

_GUARD = Path(__file__).with_name("guard.py")
_PORTS = range(10_000, 32_768)  # below those that outgoing connections are given
_ATTEMPTS = 3
_PATIENCE = 120.0  # seconds, for a start or an end


class StackError(RuntimeError):
    """The stack does not start or end; the message says why."""


class Guarded:
    """A server behind a guard (see guard.py), which ends it when we end, in two minutes at most.

    The constructor returns when the command has written `ready` and a GET of `url` is answered with
    2xx; it raises StackError, with the end of the log, after 120 seconds or when the command ends.
    The command runs in `ROOT` with `environment`, what it writes is appended to the file `log`, and
    Ctrl-C does not reach it. `data` and `private` are the guard's: a directory whose PostgreSQL is
    ended too, and one to remove.
    """

    def __init__(
        self,
        command: list[str],
        url: str,
        ready: str,
        log: Path,
        environment: dict[str, str],
        data: str = "",
        private: str = "",
    ) -> None:
        """Start the command and wait for it."""
        self._log = log.open("a+b")
        self._url, self._ready, self._killed = url, ready, False
        begin = self._log.seek(0, os.SEEK_END)
        self._guard = subprocess.Popen(
            [sys.executable, "-I", str(_GUARD), data, private, *command],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            cwd=ROOT,
            env=environment,
            start_new_session=True,  # out of the reach of a kernel's interrupt
        )
        try:
            self._wait(ready, begin, url)
        except BaseException:
            self.stop()
            raise

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return self._guard.poll() is None and not self._killed

    def kill(self) -> None:
        """Kill the server, and the PostgreSQL in `data`, with SIGKILL; again: nothing happens.

        Raises StackError when the guard has ended, or does not do it in 120 seconds.
        """
        if not self._killed:
            self._order(b"k", "killed, as asked")
            self._killed = True

    def restart(self) -> None:
        """Start the command again after `kill`, and wait for it; raises like the constructor."""
        if self._killed:
            self._killed = False
            self._order(b"s", self._ready, self._url)

    def stop(self) -> None:
        """End the server, and what else the guard ends; again: nothing happens.

        Raises StackError when it does not end within 120 seconds.
        """
        assert self._guard.stdin
        self._guard.stdin.close()
        try:
            self._guard.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            raise StackError(f"the server does not end; {self._end_of_log()}") from None
        finally:
            self._log.close()

    def _order(self, order: bytes, done: str, url: str = "") -> None:
        assert self._guard.stdin
        begin = self._log.seek(0, os.SEEK_END)
        with suppress(BrokenPipeError):  # it has ended, as the wait will find
            os.write(self._guard.stdin.fileno(), order)
        self._wait(done, begin, url)

    def _wait(self, words: str, begin: int, url: str) -> None:
        """Return when the words are in the log behind `begin`, and `url` is answered, if any."""
        deadline = time.monotonic() + _PATIENCE
        with closing(Session(url)) as session:
            while self.alive and time.monotonic() < deadline:
                self._log.seek(begin)
                # somebody else's server may answer at this address, while ours finds it taken
                if words.encode() in self._log.read():
                    with suppress(*FAILURES):
                        if not url or session.exchange("GET", "", None, 5.0).status // 100 == 2:
                            return
                time.sleep(0.05)
        aim = "start" if url else "end"
        raise StackError(f"the server does not {aim}; {self._end_of_log()}")

    def _end_of_log(self) -> str:
        self._log.seek(0)  # the file may be gone already, with the private directory
        lines = self._log.read().decode(errors="replace").splitlines()
        return "\n".join([f"its log, {self._log.name}, ends:", *lines[-10:]])


def free_port(*preferred: int) -> int:
    """Return a TCP port that nobody listens on, a preferred one if possible.

    Somebody else may take it the next moment.
    """
    for port in chain(preferred, iter(lambda: random.choice(_PORTS), None)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that has just ended
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError  # there are always more


def on_a_free_port(start: Callable[[int], T], taken: str, *preferred: int) -> T:
    """Start a server on a port that is free, a preferred one if possible; return what `start` does.

    When somebody was faster to take it, which the words `taken` in a StackError tell, another one.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return start(free_port(*preferred))
        except StackError as error:
            if taken not in str(error):
                raise
            preferred = ()
    return start(free_port())


def environment() -> dict[str, str]:
    """Return our environment without what points to another queue, database, port or token."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "DATABASE_URL" and not name.startswith("QUEUE_")
    }
