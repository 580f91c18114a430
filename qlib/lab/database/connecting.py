"""How the lab connects to the database, whatever the kernel's environment says.

libpq takes what a connection string leaves open from the environment, PGHOSTADDR and PGSERVICE even
against it: then a notebook would work in somebody else's database. So all PG* are out of the
environment while the lab connects, one connection at a time, and back after that; $QUEUE_DSN says
everything that is to hold. That ends where the lab does not connect itself: a cell that calls
`psycopg2.connect`, or psql, follows PG* as ever, unless it is another thread that does so at that
very moment, or a process started by one: these miss them. What libpq reads elsewhere stays: LC_*,
the files in ~/.postgresql, a .pgpass, OpenSSL's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import psycopg2
from psycopg2.extensions import connection

_BOUNDS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

_lock = Lock()
# A child that is forked meanwhile would miss the variables, and never get the lock.
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)


def connect(dsn: str, **options: Any) -> connection:
    """Connect as `psycopg2.connect`, in 5 seconds, with nothing from the environment.

    A database whose machine has vanished is given up after half a minute.
    """
    with _without_variables():
        opened: connection = psycopg2.connect(dsn, **(_BOUNDS | options))
    return opened


@contextmanager
def _without_variables() -> Iterator[None]:
    with _lock:
        names = [name for name in os.environ if name.startswith("PG")]
        kept = {name: os.environ.pop(name) for name in names}
        try:
            yield
        finally:
            os.environ.update(kept)
