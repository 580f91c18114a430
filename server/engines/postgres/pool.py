"""A bounded pool of sessions whose exhaustion is a bounded wait, and of which nobody takes more than a part."""

import logging
import select
import threading
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from server.engines.postgres.session import NotWritable, Session, connect
from server.http.errors import Problem

log = logging.getLogger(__name__)


class _Waiter:
    def __init__(self, user: Hashable) -> None:
        self.user = user
        self.served = threading.Lock()
        self.served.acquire()


class Pool:
    """At most `size` sessions, opened when they are needed; a caller waits `patience` seconds for one.

    A user (a topic, say) may take another one beside its first only while more than half of them are left: one that is
    stuck holds half of them at the most, and each further one a single one.
    """

    def __init__(self, dsn: str, size: int, patience: float, **settings: str) -> None:
        """Open nothing yet. `settings` are Postgres' own, for every session."""
        self.turns = 0  # how often all of them were dropped, since the database took no writes
        self._dsn = dsn
        self._settings = settings
        self._patience = patience
        self._lock = threading.Lock()
        self._left = size
        self._reserved = size // 2
        self._held: Counter[Hashable] = Counter()
        self._line: list[_Waiter] = []
        self._idle: list[Session] = []  # the last one used is the first one taken: it is warm

    @contextmanager
    def connection(self, user: Hashable = None) -> Iterator[Session]:
        """Lend a session, out of the share of `user`. Raises Problem (503, outcome none) when none can be had."""
        self._enter(user)
        try:
            turn = self.turns
            lent = self._take()
            try:
                yield lent
            finally:
                self._give_back(lent, turn)
        finally:
            self._leave(user)

    def _may_enter(self, user: Hashable) -> bool:
        first = user is None or not self._held[user]
        return self._left > (0 if first else self._reserved)

    def _count(self, user: Hashable) -> None:
        self._left -= 1
        self._held[user] += 1

    def _enter(self, user: Hashable) -> None:
        waiter = _Waiter(user)
        with self._lock:
            if self._may_enter(user):
                return self._count(user)
            self._line.append(waiter)
        if waiter.served.acquire(timeout=self._patience):
            return None
        with self._lock:
            if waiter not in self._line:  # served at the last moment
                return None
            self._line.remove(waiter)
            none_left = not self._left
        raise Problem(
            "unavailable",
            "all database connections are busy" if none_left else "too many wait for this topic",
        )

    def _leave(self, user: Hashable) -> None:
        with self._lock:
            self._left += 1
            self._held[user] -= 1
            if not self._held[user]:
                del self._held[user]
            for waiter in list(self._line):
                if self._may_enter(waiter.user):
                    self._count(waiter.user)
                    self._line.remove(waiter)
                    waiter.served.release()
                    if waiter.user == user:
                        break  # all is as it was before: nobody else may

    def _take(self) -> Session:
        while True:
            try:
                idle = self._idle.pop()
            except IndexError:
                break
            if _is_quiet(idle):
                return idle
            idle.close()
        try:
            return connect(self._dsn, **self._settings)
        except psycopg2.Error as error:
            said = str(error).strip().replace("\n", " ")
            log.warning("no connection to the database: %s", said)
            if isinstance(error, NotWritable):
                self._turn()
                raise Problem("unavailable", said) from None
            raise Problem("unavailable", "the database does not answer") from None

    def _turn(self) -> None:
        # who takes no writes was led to, or was demoted: the others may lead there, too
        self.turns += 1
        self.close()

    def _give_back(self, lent: Session, turn: int) -> None:
        if not lent.writable:
            self._turn()
        usable = not lent.closed and lent.info.transaction_status == TRANSACTION_STATUS_IDLE
        if usable and turn == self.turns:
            self._idle.append(lent)
        else:
            with suppress(psycopg2.Error):
                lent.close()

    def close(self) -> None:
        """Close the idle sessions."""
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return


def _is_quiet(idle: Session) -> bool:
    # An idle connection has nothing to say. If there is something to read, the database has gone (or is going), and
    # the next statement must not be sent into it: its outcome would be unknown.
    poll = select.poll()
    poll.register(idle.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return not idle.closed and not poll.poll(0)
