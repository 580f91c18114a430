"""What Postgres does underneath: an X-ray of a statement."""

from __future__ import annotations

from contextlib import closing

from psycopg2.extras import Json

from qlib.lab.database.connecting import connect
from qlib.lab.database.query import Table, database
from qlib.lab.xray import explained, log, pages, rights
from qlib.lab.xray.shot import Xray

__all__ = ["Xray", "xray"]

_BOUNDED = "-c lock_timeout=10s -c statement_timeout=30s -c synchronous_commit=on"


def xray(statement: str, *values: object) -> Xray:
    """Run one statement in a transaction of its own, commit, and return what PostgreSQL did for it.

    `values` take the places of the `%s`, as in `lab.sql`. The `Xray` has the statements inside the
    functions that were called, with their plans, rows, buffers and WAL; the records in the WAL; and
    the pages of tables that were written, before and after. It needs a superuser, and puts
    pageinspect and pg_walinspect, which come with PostgreSQL, into the database. Raises PermissionError or
    LookupError when one is missing, with what to do, before anything is run; psycopg2.Error as
    `lab.sql`, and then nothing is changed.
    """
    with closing(connect(database(), application_name="X-ray", options=_BOUNDED)) as session:
        rights.check(session)
        before = pages.photograph(session)
        begin = log.position(session, "pg_current_wal_insert_lsn()")
        with explained.watching(session) as plans, session.cursor() as done:
            given = [Json(v) if isinstance(v, dict) else v for v in values]
            done.execute(statement, given or None)  # without values a % is a %
            columns = [column.name for column in done.description or ()]
            rows = Table(done.fetchall() if columns else [], columns=columns, dtype=object)
        own = log.own_transaction(session)
        session.commit()
        records, others = log.records(session, begin, own)
        after = pages.photograph(session)
    return Xray(plans, rows, records, others, pages.developed(before, after, records))
