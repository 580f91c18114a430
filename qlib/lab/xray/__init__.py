"""What Postgres does underneath: an X-ray of a statement, or of a call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial

from psycopg2.extras import Json

from qlib.lab.database.connecting import connect
from qlib.lab.database.query import Table, database
from qlib.lab.xray import explained, log, pages, rights
from qlib.lab.xray.call import of_call
from qlib.lab.xray.shot import Xray

__all__ = ["Xray", "xray"]


def xray(what: str | Callable[..., object], *values: object) -> Xray:
    """Run a statement, commit, and return what PostgreSQL did for it; or do the same for a call.

    A statement runs in a transaction of its own, as in `lab.sql`, and `values` take the places of
    the `%s`. Of a function, such as a method of a `QPublisher`, `values` are the arguments, and it
    is seen what the server of the queue, which must be a private one, had PostgreSQL do while it
    ran, for others too.

    The `Xray` has the statements inside the functions that were called, with their plans, rows,
    buffers and WAL; the records in the WAL; and the pages of tables that were written, before and
    after. It needs a superuser, and puts pageinspect and pg_walinspect, which come with PostgreSQL,
    into the database. Raises PermissionError or LookupError when one is missing, StackError when
    the queue is not private, with what to do, before anything is run; psycopg2.Error as `lab.sql`,
    and then nothing is changed; and whatever a function raises.
    """
    return of_statement(what, values) if isinstance(what, str) else of_call(partial(what, *values))


def of_statement(statement: str, values: tuple[object, ...]) -> Xray:
    """Return the X-ray of a statement."""
    with closing(connect(database(), application_name="X-ray", options=rights.BOUNDED)) as session:
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
        found = log.records(session, begin)
        after = pages.photograph(session)
    records = log.of_transaction(found, own)
    changed = pages.developed(before, after, records)
    return Xray(plans, rows, records, len(found) - len(records), changed)
