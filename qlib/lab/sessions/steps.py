"""What sessions that are stepped by hand do, and how they say it."""

from __future__ import annotations

import itertools
import re
from collections import namedtuple
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from psycopg2.extensions import cursor

from qlib.lab.database.query import Table

_SHORT = 20  # characters

# What people read in the row of a function, by its name and the number of its columns.
_READ_AS = {
    ("ack", 4): "position {}",
    ("reset", 2): "position {}",
    ("publish_batch", 3): "offsets {} to {}",
}

steps = itertools.count(1)


class SessionError(Exception):
    """A statement failed: `sqlstate` is PostgreSQL's code for it, such as 40P01, a deadlock."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(f"{sqlstate}: {message}")
        self.sqlstate = sqlstate


class Rows(list[Any]):
    """The rows of a statement, as a list of named tuples that is shown as a table."""

    def __init__(self, rows: Iterable[Any], columns: Sequence[str]) -> None:
        super().__init__(rows)
        self.columns = list(columns)

    def __repr__(self) -> str:
        """Return the rows as text."""
        return repr(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def _table(self) -> Table:
        return Table([tuple(row) for row in self], columns=self.columns, dtype=object)


def rows_of(done: cursor) -> Rows | None:
    """Return what a statement returned; None when it is not of the kind that returns rows."""
    if done.description is None:
        return None
    columns = tuple(column.name for column in done.description)
    return Rows(map(_row(columns)._make, done.fetchall()), columns)


@lru_cache(100)
def _row(columns: tuple[str, ...]) -> Any:
    """Return the class of a row; a column without a name of its own is called by its number."""
    return namedtuple("row", columns, rename=True)


@dataclass(frozen=True)
class Waiting:
    """A statement is not over: its session waits until the blockers commit or roll back."""

    session: str
    blockers: tuple[str, ...]

    def __repr__(self) -> str:
        """Return who waits for whom."""
        return f"{self.session} waits for {' and '.join(self.blockers)}"


@dataclass
class Event:
    """One thing that a session did.

    `started` and `ended` count the steps of all sessions of this process. What did not have to
    wait ends in the step in which it started; what had to, when its end is looked at, and until
    then `ended` is None. `outcome` is what came back, if it is short, or the SQLSTATE when it
    `failed`. `idle` says that it left no transaction open.
    """

    what: str
    started: int
    ended: int | None = None
    waited_for: tuple[str, ...] = ()
    outcome: str = ""
    failed: bool = False
    idle: bool = False

    def __str__(self) -> str:
        """Return it in words."""
        outcome = self.outcome and f" {'✗' if self.failed else '→'} {self.outcome}"
        waited = self.waited_for and f" (after a wait for {' and '.join(self.waited_for)})"
        return f"{self.what}{outcome}{waited or ''}"


def label(statement: str) -> str:
    """Return a word for a statement.

    It is the comment that it begins with, the function of the queue that it calls, or its first
    word.
    """
    if named := re.match(r"\s*/\*\s*(.*?)\s*\*/", statement):
        return named[1]
    called = re.search(r"\bqueue\.(\w+)\s*\(", statement)
    return called[1] if called else (statement.split() or [""])[0].lower().strip(";")


def in_short(what: str, result: object) -> str:
    """Return what came back if it can be told in a few words: not nothing, and not a table.

    `what` is the label of the statement.
    """
    if isinstance(result, Rows):
        result = _row_in_short(what, result[0]) if len(result) == 1 else None
    told = "" if result is None else str(result)
    return told if len(told) <= _SHORT else ""


def _row_in_short(what: str, row: Sequence[Any]) -> object:
    only = row[0] if len(row) == 1 else None
    fields = row
    if isinstance(only, str) and only.startswith("("):  # a row in a single column, as text
        fields = only[1:-1].split(",")
    if len(fields) == 1:
        return fields[0]
    return _READ_AS.get((what, len(fields)), "").format(*fields)
