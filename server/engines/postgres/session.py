"""A session: a connection that has each statement prepared, and notices when the database takes no writes."""

import itertools
import re
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, NoReturn

import psycopg2
import psycopg2.errors
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from server.engines.postgres.driven import Driven, Rows
from server.engines.postgres.failures import NotSent, NotWritable

# A little more than statement_timeout: who has not answered by then is stopped, or beyond reach.
_LIMIT = 35.0


class Session(Driven):
    """A connection that has each statement parsed and planned once, and not at every call.

    `connect` makes one.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Begin to connect. Raises psycopg2.OperationalError."""
        super().__init__(*arguments, **named)
        self.limit = _LIMIT
        self.writable = True
        self.backend = 0  # its process; what a pooler tells us at the start is not
        self.turn = 0  # the pool's
        self._prepared: dict[str, str] = {}

    async def opened(self) -> None:
        """Wait until the connection is there. Raises psycopg2.OperationalError."""
        await super().opened()
        # a pooler keeps what it heard when it connected: such a welcome says nothing, and we have to ask
        self._misled = self._told_read_only()

    @property
    def usable(self) -> bool:
        """Whether it may be asked again."""
        there = self._socket >= 0 and not self.closed
        return there and self.get_transaction_status() == TRANSACTION_STATUS_IDLE

    @property
    def quiet(self) -> bool:
        """Whether it is surely there.

        An idle connection has nothing to say. If there is something to read, the database has gone (or is going), and
        the next statement must not be sent into it: its outcome would be unknown.
        """
        return self._watched and not self._look.poll(0)

    async def run(self, sql: str, values: Sequence[Any]) -> Rows:
        """Run a statement that has %s for each of its values; return its rows.

        Raises psycopg2.Error; Lost when the connection has ended, NotSent when that was before the statement,
        NotWritable instead of rows when the database has been made read only. Whoever is cancelled leaves the session
        busy.
        """
        execute = self._prepared.get(sql)
        if execute is None or self._misled:
            execute = await self._ready_for(sql)
        try:
            rows = await self.execute(execute, values)
        except psycopg2.errors.FeatureNotSupported:  # a function returns another type by now
            await self._forget(sql)
            raise
        except psycopg2.errors.InvalidSqlStatementName:  # somebody has deallocated it
            del self._prepared[sql]
            raise
        except psycopg2.errors.ReadOnlySqlTransaction:
            self.writable = False
            raise
        if self._told_read_only() and not self._misled:
            # a write has failed then, and a read may be stale
            self._refuse()
        return rows

    async def _ready_for(self, sql: str) -> str:
        try:
            # asked before: a write that was carried out must not be told as one that was not
            if self._misled and await self._is_read_only():
                self._refuse()
            return self._prepared.get(sql) or await self._prepare(sql)
        except psycopg2.Error as error:
            if error.pgcode or isinstance(error, NotWritable):
                raise
            raise NotSent(str(error)) from error

    async def _prepare(self, sql: str) -> str:
        # a name says what it stands for, in case another server's statements are on this backend, too
        name = "queue_" + sha256(sql.encode()).hexdigest()[:32]
        places = itertools.count(1)
        text = re.sub("%s", lambda _: f"${next(places)}", sql)
        with suppress(psycopg2.errors.DuplicatePreparedStatement):
            await self.execute(f"prepare {name} as {text}")
        marks = ", ".join(["%s"] * sql.count("%s"))
        execute = f"execute {name} ({marks})" if marks else f"execute {name}"
        return self._prepared.setdefault(sql, execute)

    async def _forget(self, sql: str) -> None:
        name = self._prepared.pop(sql).split()[1]
        with suppress(psycopg2.errors.InvalidSqlStatementName):
            await self.execute(f"deallocate {name}")

    def _refuse(self) -> NoReturn:
        self.writable = False
        raise NotWritable("the database has been made read only")

    def _told_read_only(self) -> bool:
        # Postgres says so with the first answer after a change of its configuration
        return self.get_parameter_status("default_transaction_read_only") == "on"

    async def _is_read_only(self) -> bool:
        return await self.execute("show transaction_read_only") == [("on",)]
