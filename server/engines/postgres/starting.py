"""Starting: a database that the queue can work on, waited for, looked at, and brought up to date."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg2
from psycopg2.extensions import parse_dsn

from server.engines.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from server.engines.postgres.install import InstallError, install
from server.engines.postgres.poolers import check

log = logging.getLogger("server")

_PATIENCE = 60.0


class CannotStart(Exception):
    """There is no database to work on; the message says why, and what helps."""


def is_connection_string(text: str) -> bool:
    """Whether libpq could make sense of a connection string."""
    try:
        parse_dsn(text)
    except psycopg2.ProgrammingError:  # its message quotes the text, which may hold a password
        return False
    return True


@contextmanager
def database(url: str | None, data: Path) -> Iterator[str]:
    """Yield the connection string of a database with the queue in it.

    It is the one that is given, else one in the directory `data`, which ends with the block. Raises CannotStart.
    """
    with ExitStack() as stack:
        try:
            dsn = url or _embedded(data, stack)
            _install(dsn)
        except (EmbeddedPostgresError, InstallError, psycopg2.Error) as error:
            raise CannotStart(str(error).strip()) from error
        yield dsn


def _embedded(data: Path, stack: ExitStack) -> str:
    postgres = EmbeddedPostgres(data)
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
