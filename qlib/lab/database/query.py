"""The database itself, as one looks at it: queries as tables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pandas as pd
from psycopg2.extensions import INTEGER, LONGINTEGER, cursor
from psycopg2.extras import Json

from qlib.lab.database.connecting import connect
from qlib.marks import MARK, disposable

# A cell that waits for a lock, or for ever, ends with an error and not with a dead notebook.
_BOUNDED = "-c lock_timeout=10s -c statement_timeout=30s"
_MARK = """
update queue.topic set description = concat_ws(' ', description, %s)
where name = any(%s) and xmin = pg_current_xact_id()::xid
"""
_NO_DATABASE = "$QUEUE_DSN is not set: lab.up sets it, for a queue of yours by lab.up(url=…, dsn=…)"
_WHOLE = {*INTEGER.values, *LONGINTEGER.values}


class Table(pd.DataFrame):
    """A DataFrame that is shown without its index, which would pass for an offset.

    Of a long one the first and last rows are shown, as pandas is set.
    """

    @property
    def _constructor(self) -> type[Table]:
        return Table  # of what is selected from one, too

    def __repr__(self) -> str:
        """Return the rows as text."""
        return self.to_string(index=False, max_rows=_most_rows())

    def _repr_html_(self) -> str:
        return self.to_html(index=False, border=0, max_rows=_most_rows())


def sql(text: str, *values: object) -> Table:
    """Run one statement in a transaction of its own, commit, and return its rows as a DataFrame.

    `values` take the places of the `%s` in the text; without values a `%` is a `%`. A dict is
    sent as JSON, a list as an array; what comes back is what psycopg2 makes of it, with JSON
    parsed. Integers are exact, whatever is beside them. A statement without rows returns an empty
    table. Raises psycopg2.Error, and then nothing is changed, unless the connection was lost during
    the commit; LookupError when $QUEUE_DSN is not set, which `up` does.
    """
    with _transaction() as rows:
        # psycopg2 looks for placeholders only when there are values
        rows.execute(text, [Json(v) if isinstance(v, dict) else v for v in values] or None)
        found = _table(rows)
        if "create_topic" in text and (names := _disposable()):
            _mark(rows, names)
        return found


def database() -> str:
    """Return the libpq connection string of the database; LookupError when $QUEUE_DSN is not set.

    PG* in the environment add nothing to it.
    """
    dsn = os.environ.get("QUEUE_DSN")
    if not dsn:
        raise LookupError(_NO_DATABASE)
    return dsn


def _most_rows() -> int | None:
    most: int | None = pd.get_option("display.max_rows")
    return most


@contextmanager
def _transaction() -> Iterator[cursor]:
    opened = closing(connect(database(), options=_BOUNDED))
    with opened as session, session, session.cursor() as rows:
        yield rows


def _disposable() -> list[str]:
    """Return the names that are disposable on the queue at hand; another's are not."""
    at_hand = os.environ.get("QUEUE_URL", "").rstrip("/")
    return [name for url, name in disposable if url == at_hand]


def _mark(rows: cursor, names: list[str]) -> None:
    """Mark what this transaction has created, as `QPublisher` does; only an owner can."""
    rows.execute("select has_table_privilege(to_regclass('queue.topic'), 'update')")
    if rows.fetchone() == (True,):
        rows.execute(_MARK, [MARK, names])


def _table(rows: cursor) -> Table:
    if rows.description is None:
        return Table()
    columns = rows.description
    frame = pd.DataFrame(rows.fetchall(), columns=[c.name for c in columns], dtype=object)
    for place, column in enumerate(columns):
        values = frame.iloc[:, place]
        if column.type_code in _WHOLE:
            frame.isetitem(place, values.astype("Int64").array)
        elif _is_safe(values):
            frame.isetitem(place, values.infer_objects().array)
    return Table(frame)


def _is_safe(values: pd.Series[Any]) -> bool:
    """Say whether pandas may choose a type.

    Beside a null or a fraction it would round integers; and the null among texts, a NaN or not as
    the columns beside it will have it, is to be None.
    """
    kinds = set(map(type, values))
    return len(kinds) == 1 or not kinds & {int, str}
