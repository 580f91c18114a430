"""`python -m server`: a database if none is given, the worker process, and an orderly end."""

import logging
import resource
import signal
import sys
import time
from contextlib import ExitStack

import psycopg2

from server import logs
from server.address import in_url
from server.engines.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from server.engines.postgres.install import InstallError, install
from server.engines.postgres.poolers import check
from server.http.bounds import Bounds
from server.http.serving import CannotListen, bind, listen
from server.parent import Parent
from server.settings import Settings, parse

log = logging.getLogger("server")

_PATIENCE = 60.0


def main() -> int:
    """Run the server until SIGTERM, Ctrl-C or the terminal's end; return the exit code."""
    settings = parse()
    logs.configure(settings.log_level)
    for number in _ends():
        signal.signal(number, _leave)
    _allow_open_files()
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(bind(settings.host, settings.port))
            dsn = settings.database_url or _embedded(settings, stack)
            _install(dsn)
            listen(listener)  # until now clients are refused: nobody would answer them
        except CannotListen as error:
            log.error("%s", error)
            return 1
        except (EmbeddedPostgresError, InstallError, psycopg2.Error) as error:
            log.error("cannot start: %s", str(error).strip())
            return 1
        ready = f"queue server on http://{in_url(settings.host)}:{settings.port}"
        Parent(settings, dsn, listener).run(ready)
    return 0


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
    wanted = Bounds.connections + 1024
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
