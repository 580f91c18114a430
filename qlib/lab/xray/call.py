"""An X-ray of what a call makes the server do, in a private stack.

Nobody can be told the plans of another's session but the server's log. So auto_explain is made a
setting of the database, the server's sessions are ended, since only new ones load it, and the log
is read from where the call began. After that the settings are as they were, and the sessions are
ended once more.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager

from psycopg2 import sql
from psycopg2.extensions import connection, cursor

from qlib.lab.database.connecting import connect
from qlib.lab.database.query import database
from qlib.lab.stack.choice import at_hand
from qlib.lab.stack.guarded import StackError
from qlib.lab.xray import explained, log, pages, rights
from qlib.lab.xray.shot import Xray
from qlib.publisher import QPublisher

_NOT_PRIVATE = (
    "lab.xray of a call changes settings of the database and ends sessions of its server, so it is for"
    " private queues alone"
)
_SETTINGS = {
    "session_preload_libraries": "auto_explain",
    **{f"auto_explain.{name}": value for name, value in explained.SETTINGS.items()},
}
_FOR_ALL = "from pg_db_role_setting s join pg_database d on d.oid = setdatabase and setrole = 0"
_STORED = f"select unnest(setconfig) {_FOR_ALL} where datname = current_database()"
# The one that listens runs nothing, and a session at work is ended when it has done it.
_END = """
select pid, case state when 'idle' then pg_terminate_backend(pid, 1000) end
from pg_stat_activity
where application_name = 'queue-server' and datname = current_database()
  and query !~* '^listen' and backend_start < %s
"""
_LOG = "../postgres.log"  # seen from the cluster in the directory of an embedded PostgreSQL
_PLAN = re.compile(r"^\S+ \S+ \S+ \[\d+\] LOG:  duration: [0-9.]+ ms  plan:\n((?:\t.*\n)+)", re.M)
_PATIENCE = 60.0  # seconds until the server's sessions have ended


def of_call(call: Callable[[], object]) -> Xray:
    """Return what the server of the private queue at hand had PostgreSQL do while `call` ran.

    Raises StackError when the queue is none, what the call raises, and psycopg2.OperationalError
    when it has PostgreSQL killed.
    """
    if at_hand() is None:
        raise StackError(_NOT_PRIVATE)
    with closing(_session()) as session:
        rights.check(session)
        with _server_explained():
            with QPublisher() as publisher:
                publisher.topics()  # a new session of the server asks a few things first
            before = pages.photograph(session)
            begin = log.position(session, "pg_current_wal_insert_lsn()")
            mark = _size(session)
            answer = call()
            plans = [json.loads(text) for text in _told(session, mark)]
            records = log.records(session, begin)
        after = pages.photograph(session)
    return Xray(plans, answer, records, 0, pages.developed(before, after, records))


@contextmanager
def _server_explained() -> Iterator[None]:
    """Have auto_explain in the sessions of the server; leave the database as it was."""
    with closing(_session()) as session, session.cursor() as done:
        done.execute(_STORED)
        stored = dict(text.split("=", 1) for (text,) in done.fetchall())
    try:
        _set(_SETTINGS)
        yield
    finally:
        _set({name: stored.get(name) for name in _SETTINGS})


def _set(settings: Mapping[str, str | None]) -> None:
    """Change settings of the database (None: none), and have the server take new sessions.

    In a session of its own: the call may have restarted PostgreSQL.
    """
    with closing(_session()) as session, session.cursor() as done:
        name = sql.Identifier(session.info.dbname)
        done.execute("load 'auto_explain'")  # or its settings would not be known
        for setting, value in settings.items():
            to = sql.SQL("set {} to {}" if value is not None else "reset {}").format(
                sql.SQL(setting), sql.Literal(value)
            )
            done.execute(sql.SQL("alter database {} {}").format(name, to))
        _end_sessions(done)


def _end_sessions(done: cursor) -> None:
    done.execute("select clock_timestamp()")
    [changed] = done.fetchall()
    deadline = time.monotonic() + _PATIENCE
    while True:
        done.execute(_END, changed)
        if not done.fetchall():
            return
        if time.monotonic() > deadline:
            raise StackError("a session of the server does not end")
        time.sleep(0.01)


def _session() -> connection:
    opened = connect(database(), application_name="X-ray", options=rights.BOUNDED)
    opened.autocommit = True
    return opened


def _size(session: connection) -> int:
    with session.cursor() as done:
        done.execute("select size from pg_stat_file(%s)", [_LOG])
        [[size]] = done.fetchall()
        return int(size)


def _told(session: connection, mark: int) -> list[str]:
    """Return the plans in the log behind a mark."""
    with session.cursor() as done:
        done.execute("select pg_read_file(%s, %s, %s)", [_LOG, mark, _size(session) - mark])
        [[text]] = done.fetchall()
    return [plan.replace("\n\t", "\n") for plan in _PLAN.findall(text)]
