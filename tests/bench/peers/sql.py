"""Queues that are SQL functions, each in a database of its own on one cluster.

They are called over psycopg2 in autocommit mode, in one session for the publisher and one for each reader.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import psycopg2
from psycopg2.extensions import cursor
from psycopg2.extras import register_default_json, register_default_jsonb

from tests.bench.peers.peer import PATIENCE, Peer

_OPTIONS = f"-c statement_timeout={PATIENCE}s -c client_min_messages=warning"
_BETWEEN = "\x1f"  # which no JSON text holds


class SqlPeer(Peer):
    """A queue in Postgres; `_sql` is the publisher's cursor."""

    def prepare(self, subscribers: int) -> None:
        """Make an empty queue; sessions are kept, as a reader has one for long."""
        while len(self._sessions) < subscribers:
            self._sessions.append(self._session())
        self._create(subscribers)
        self._readers = [
            partial(self._receive, session, number)
            for number, session in enumerate(self._sessions[:subscribers])
        ]

    def wal(self) -> int:
        """Return how many bytes of WAL the cluster has written so far, for whomever."""
        self._sql.execute("select pg_current_wal_insert_lsn() - '0/0'")
        return int(self._sql.fetchall()[0][0])

    def _start(self, opened: ExitStack) -> None:
        self._dsn = self._stand.dsn(self.name)
        self._sessions: list[cursor] = []
        self._sql = self._session()
        self._install()

    @abstractmethod
    def _install(self) -> None:
        """Put the functions into the empty database."""

    @abstractmethod
    def _create(self, subscribers: int) -> None:
        """Make an empty queue for so many readers, in place of the one there was."""

    @abstractmethod
    def _receive(self, session: cursor, number: int, limit: int) -> int:
        """Let a reader receive and acknowledge messages; return how many."""

    def _session(self) -> cursor:
        session = psycopg2.connect(self._dsn, options=_OPTIONS)
        self._opened.enter_context(closing(session))
        session.autocommit = True
        for register in (register_default_json, register_default_jsonb):
            register(session, loads=str)  # parsing would cost more than any queue does
        return session.cursor()


def array_literal(payloads: Sequence[str]) -> str:
    """Return JSON texts as Postgres writes an array of them: what psycopg2 makes of a list is slower."""
    escaped = _BETWEEN.join(payloads).replace("\\", "\\\\").replace('"', '\\"')
    return '{"' + escaped.replace(_BETWEEN, '","') + '"}'


def from_file(sql: cursor, variable: str) -> None:
    """Run the SQL file that an environment variable names."""
    sql.execute(Path(os.environ[variable]).read_text())
