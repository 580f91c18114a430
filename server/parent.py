"""The parent process: holds the listening socket, starts the worker, starts another one when that dies, and ends it."""

import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait

from server.http.bounds import Bounds
from server.memory import MALLOC
from server.settings import Settings
from server.worker import work

log = logging.getLogger("server")

_AT_ONCE = 1.0  # seconds; a worker that dies sooner is not followed at once
_MORE = 3.0  # seconds that a worker has beyond its own grace
# A signal that comes just before a wait begins does not cut it short: its handler runs when the wait is over.
_LONGEST_WAIT = 0.5  # seconds


class Parent:
    """Keeps one worker at work until an exception ends it, as a signal's handler raises one."""

    def __init__(self, settings: Settings, dsn: str, listener: socket.socket) -> None:
        """Start nothing yet."""
        self._arguments = (settings, dsn, listener)
        self._listener = listener
        self._context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
        self._worker: multiprocessing.process.BaseProcess | None = None
        self._lifeline: Connection | None = None

    def run(self, ready: str) -> None:
        """Keep a worker; print `ready` once, when it answers."""
        for name, value in MALLOC.items():  # for the worker
            os.environ.setdefault(name, value)
        # it would be started with the worker, and unblock signals meanwhile
        resource_tracker.ensure_running()
        try:
            while True:
                began = time.monotonic()
                self._start()
                if self._ready() and ready:
                    print(ready, flush=True)
                    ready = ""
                self._wait(began)
        finally:
            self._end()

    def _start(self) -> None:
        with _signals_held():  # also in the worker, until it knows what to do with them
            self._lifeline, other = self._context.Pipe()
            worker = self._context.Process(target=work, args=(*self._arguments, other))
            worker.start()
            other.close()
            self._worker = worker

    def _ready(self) -> bool:
        assert self._worker and self._lifeline
        while not wait([self._lifeline, self._worker.sentinel], _LONGEST_WAIT):
            pass
        with suppress(EOFError, ConnectionError):  # it has died
            return self._lifeline.poll() and bool(self._lifeline.recv_bytes())
        return False

    def _wait(self, began: float) -> None:
        assert self._worker and self._lifeline
        while self._worker.is_alive():
            self._worker.join(_LONGEST_WAIT)
        self._lifeline.close()
        log.error("the worker has ended (%s); another one is started", self._worker.exitcode)
        if time.monotonic() - began < _AT_ONCE:
            time.sleep(_AT_ONCE)

    def _end(self) -> None:
        self._listener.close()
        if self._worker:
            self._worker.terminate()
            self._worker.join(Bounds.grace + _MORE)
            self._worker.kill()
            self._worker.join()


@contextmanager
def _signals_held() -> Iterator[None]:
    held = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
