"""`python -m server`: a database if none is given, the worker process, and an orderly end."""

import functools
import logging
import multiprocessing
import os
import resource
import signal
import struct
import sys
import threading
import time
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection

import psycopg2
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from server import logs
from server.address import answers, claim, in_url
from server.engines.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from server.engines.postgres.install import InstallError, install
from server.engines.postgres.poolers import check
from server.memory import MALLOC
from server.settings import Settings, parse
from server.worker import load

log = logging.getLogger("server")

_PATIENCE = 60.0
_CONNECTIONS = 16384  # those that only dawdle over their headers cost no thread
_GRACE = 35  # seconds for what is in flight: a little more than Postgres' statement_timeout


class Server(MPServer):
    """Granian, telling its worker before the end that the end is near."""

    def __init__(self, settings: Settings, lifeline: Connection) -> None:
        """Listen nowhere yet."""
        self._lifeline = lifeline
        # Granian would begin the worker anew; who asked for nohup wants neither
        ends = signal.SIGHUP in _ends()
        hangup = self.signal_handler_interrupt if ends else signal.SIG_IGN
        self.signal_handler_reload = hangup  # type: ignore[assignment, method-assign]
        super().__init__(
            "queue",
            address=settings.host,
            port=settings.port,
            interface=Interfaces.WSGI,
            http=HTTPModes.http1,
            blocking_threads=settings.threads,
            backlog=2048,
            backpressure=_CONNECTIONS,
            http1_settings=HTTP1Settings(header_read_timeout=10_000),
            respawn_failed_workers=True,
            workers_kill_timeout=_GRACE,
            log_level=LogLevels.error,
        )

    def signal_handler_interrupt(self, *arguments: object, **named: object) -> None:
        """Begin the end. One write: it is safe in a signal handler, and again."""
        with suppress(BrokenPipeError):  # the worker has ended, and what comes after it goes on
            os.write(self._lifeline.fileno(), struct.pack("!i", 1) + b"x")
        super().signal_handler_interrupt(*arguments, **named)  # type: ignore[no-untyped-call]


def main() -> int:
    """Run the server until SIGTERM, Ctrl-C or the terminal's end; return the exit code."""
    settings = parse()
    logs.configure(settings.log_level)
    multiprocessing.set_start_method(
        "spawn"
    )  # this process has threads; a fork would copy their locks
    for number in _ends():  # until Granian takes over
        signal.signal(number, _leave)
    _allow_open_files()
    with ExitStack() as stack:
        try:
            stack.enter_context(claim(settings.host, settings.port))
        except OSError as error:
            address = f"{in_url(settings.host)}:{settings.port}"
            log.error("cannot listen on %s: %s", address, error.strerror)
            return 1
        try:
            dsn = settings.database_url or _embedded(settings, stack)
            _install(dsn)
        except (EmbeddedPostgresError, InstallError, psycopg2.Error) as error:
            log.error("cannot start: %s", str(error).strip())
            return 1
        return _serve(settings, dsn)


def _serve(settings: Settings, dsn: str) -> int:
    reader, writer = multiprocessing.Pipe(duplex=False)
    server = Server(settings, writer)
    teller = threading.Thread(target=_tell, args=(settings,), name="teller", daemon=True)
    server.on_startup(teller.start)
    for name, value in MALLOC.items():  # for the worker
        os.environ.setdefault(name, value)
    server.serve(
        target_loader=functools.partial(load, settings, dsn, (reader, writer)),
        wrap_loader=False,
    )
    return 0


def _tell(settings: Settings) -> None:
    """Say that the server listens, as soon as it does."""
    while not answers(settings.host, settings.port):
        time.sleep(0.02)
    print(f"queue server on http://{in_url(settings.host)}:{settings.port}", flush=True)


def _ends() -> list[signal.Signals]:
    """Return the signals that end the server; nohup ignores one of them."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]


def _leave(*_: object) -> None:
    for number in _ends():  # one more must not cut the end short
        signal.signal(number, signal.SIG_IGN)
    sys.exit()


def _allow_open_files() -> None:
    # every connection is one; many systems begin with 256 or 1,024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS + 1024
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _embedded(settings: Settings, stack: ExitStack) -> str:
    postgres = EmbeddedPostgres(settings.data)
    stack.callback(postgres.stop)
    postgres.start()
    postgres.supervise()
    return postgres.dsn


def _install(dsn: str) -> None:
    deadline, said = time.monotonic() + _PATIENCE, ""
    while True:
        try:
            check(dsn)
            if install(dsn):
                log.info("applied init/ to the database")
            return
        except psycopg2.OperationalError as error:
            if time.monotonic() > deadline:
                raise
            if said != (said := str(error).strip().split("\n")[0]):
                log.warning("waiting up to %.0f s for the database: %s", _PATIENCE, said)
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
