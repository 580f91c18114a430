"""Other ways to give out offsets, to store messages and to end a lease, where nothing can be broken.

A strategy is swapped in beside the queue that one learns on, not in it: a wrong one leaves messages
behind that break the promises, and whoever kills the notebook half-way never puts the right one
back. So each gets a database of its own, which goes with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection, make_dsn, parse_dsn

from qlib.lab.database.connecting import connect
from qlib.lab.database.query import database, sql

_INIT = Path(__file__).resolve().parents[3] / "init"
_STRATEGIES = Path(__file__).with_name("strategies")
_INSTALLED = "advisory_lock"
_PREFIX = "queue_scratch_"

# Named after the session that made them, which lives as long as they are in use.
_ABANDONED = f"""
select datname from pg_database
where datname ~ '^{_PREFIX}[0-9]+$'
  and replace(datname, '{_PREFIX}', '')::int not in (
      select pid from pg_stat_activity where pid <> pg_backend_pid())
"""
_END = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = '{}' and backend_type = 'client backend'
"""
_PATIENCE = 2.0  # seconds; after that PostgreSQL decides


@contextmanager
def strategy(name: str) -> Iterator[None]:
    """Inside the `with`, $QUEUE_DSN names a new database in which a function is another one.

    "sequence", "max_plus_one", "counter_row" and "record_batch" are the files of `strategies/` for
    `queue.publish_batch`, "advisory_lock" is the function as it is installed; "record_batch" stores
    otherwise, too, and so brings what reads the log. With "no_fence" `queue.lease_expired` lets who
    has lost its lease go on. ValueError otherwise. `sql`, `source`, `session` and
    `interleave` use that database; a `QPublisher` goes on talking to its server, which does not. In
    the end, also after an exception, $QUEUE_DSN is what it was and the database is dropped, with all
    that was published to it. Raises psycopg2.Error, LookupError when $QUEUE_DSN is not set.
    """
    files = {file.stem: file for file in _STRATEGIES.glob("*.sql")}
    if name not in {_INSTALLED, *files}:
        raise ValueError(f"{name!r} is none of {', '.join(sorted({_INSTALLED, *files}))}")
    with scratch():
        if name in files:
            sql("set local role queue_owner;\n" + files[name].read_text())
        yield


@contextmanager
def scratch() -> Iterator[None]:
    """Inside the `with`, $QUEUE_DSN names a new database with an empty queue; see `strategy`."""
    outer = database()
    with closing(connect(outer)) as keeper:
        keeper.autocommit = True
        _drop_abandoned(keeper)
        name = f"{_PREFIX}{keeper.info.backend_pid}"
        _execute(keeper, f"create database {name}")
        os.environ["QUEUE_DSN"] = make_dsn(outer, dbname=name)
        try:
            sql("\n".join(file.read_text() for file in sorted(_INIT.glob("*.sql"))))
            yield
        finally:
            os.environ["QUEUE_DSN"] = outer
            _drop(keeper, name)


def in_scratch() -> bool:
    """Say whether $QUEUE_DSN names a database of `scratch`."""
    return str(parse_dsn(database()).get("dbname", "")).startswith(_PREFIX)


def _drop_abandoned(keeper: connection) -> None:
    """Drop what a process that was killed has left, among it what has our name."""
    for (name,) in _execute(keeper, _ABANDONED):
        _drop(keeper, name)


def _drop(keeper: connection, name: str) -> None:
    """End who is in a database, and drop it when they have left: PostgreSQL itself looks again only after 0.1 s."""
    deadline = time.monotonic() + _PATIENCE
    while _execute(keeper, _END.format(name)) and time.monotonic() < deadline:
        time.sleep(0.001)
    _execute(keeper, f"drop database if exists {name} with (force)")


def _execute(keeper: connection, statement: str) -> list[tuple[Any, ...]]:
    with keeper.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []
