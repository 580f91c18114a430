"""Whose a topic's name is: a kernel's, as long as it holds the name's lock.

The lock is an advisory one, in the database of the queue, and a session holds it that lives as long
as the kernel. So no two kernels have one name, also when both look at the same moment; and when a
kernel is dead, however it died, its names are free. What stands under a free name is then nobody's
if it bears the lab's mark, and somebody's who is not of the lab if not.

A database that restarts ends the session too: until the kernel's next `up`, which takes the names
again, they are free.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from zlib import crc32

import psycopg2
from psycopg2.extensions import connection

from qlib.errors import TopicNotFound
from qlib.lab.database.connecting import connect
from qlib.lab.stack.guarded import StackError
from qlib.marks import disposable, is_marked
from qlib.process import OfProcess
from qlib.publisher import QPublisher

_CLASS = 0x6C6162  # of the lab's advisory locks; the queue's own are 42 and up
_LOCK = "select pg_try_advisory_lock(%s, %s)"
_UNLOCK = "select pg_advisory_unlock(%s, %s)"
# Nobody ends the session for its idleness, and a vanished machine's ends in a minute.
_OPTIONS = (
    "-c idle_session_timeout=0 -c tcp_keepalives_idle=30"
    " -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)
_NOT_OURS = (
    "the topic {0!r} was not made by the lab and stays, with its {1:,} messages: if nobody needs it,"
    " delete it yourself, QPublisher().delete_topic({0!r})"
)
_IN_USE = "the topic {0!r} is that of another kernel, which is alive: it stays"
_UNKNOWN = (
    "whose the topic {0!r} is, the database knows, and $QUEUE_DSN does not say which: it stays"
)


class Taken(StackError):
    """The name of a topic is another's, or may be; `briefly` says which it is."""

    def __init__(self, message: str, name: str, briefly: str = "is another's") -> None:
        """Keep the name."""
        super().__init__(message)
        self.name, self.briefly = name, briefly


class Names:
    """The names that this process owns in one database."""

    def __init__(self, dsn: str) -> None:
        """Own none yet, without a session."""
        self._dsn = dsn
        self._session: connection | None = None
        self._owned: set[str] = set()

    def claim(self, names: Sequence[str]) -> set[str]:
        """Own these names, and return which are new; or raise Taken, and own what it was before.

        A session that was cut off with its locks is renewed, with those that are still to be had.
        """
        new: set[str] = set()
        if (names or self._owned) and not self._answers():
            self._session = connect(self._dsn, options=_OPTIONS)
            self._session.autocommit = True
            self._owned = {name for name in self._owned if self._ask(_LOCK, name)}
        for name in dict.fromkeys(names):
            if name in self._owned:
                continue
            if not self._ask(_LOCK, name):
                self.release(new)
                raise Taken(_IN_USE.format(name), name)
            self._owned.add(name)
            new.add(name)
        return new

    def release(self, names: set[str]) -> None:
        """Own these names no more; without any the session ends."""
        for name in names:
            self._ask(_UNLOCK, name)
        self._owned -= names
        if not self._owned and self._session:
            self._session.close()

    def leave(self) -> None:
        """Let go of a session that the parent of this process goes on using."""
        if self._session and not self._session.closed:
            os.close(self._session.fileno())  # its own end would be the parent's session's too

    def _answers(self) -> bool:
        with suppress(psycopg2.Error):
            return self._session is not None and self._ask("select true")
        return False

    def _ask(self, question: str, name: str | None = None) -> bool:
        assert self._session
        values = None if name is None else (_CLASS, crc32(name.encode()) - 2**31)
        with self._session.cursor() as cursor:
            cursor.execute(question, values)
            return cursor.fetchone() == (True,)


class _Databases(dict[str, Names]):
    """The names of this process, by the database."""

    def __missing__(self, dsn: str) -> Names:
        return self.setdefault(dsn, Names(dsn))

    def anew(self) -> _Databases:
        """Return what a forked child owns: nothing."""
        for names in self.values():
            names.leave()
        return _Databases()


_databases = OfProcess(_Databases())


def clear(url: str, dsn: str | None, names: Sequence[str]) -> None:
    """Own these names on a queue from now on, and delete the topics of a dead kernel, or ours.

    Topics of these names that are created by this process bear its mark. Raises Taken, and then
    nothing has happened: one of the names is owned by a live kernel, or the topic was not made by
    the lab, or there is no `dsn` to tell; psycopg2.Error or QueueError too.
    """
    if not dsn:
        if names:
            raise Taken(_UNKNOWN.format(names[0]), names[0], "may be another's (no $QUEUE_DSN)")
        return
    owner = _databases[os.getpid()][dsn]
    new = owner.claim(names)
    try:
        with QPublisher(url) as publisher:
            _refuse_others(names, publisher)
            for name in names:
                with suppress(TopicNotFound):
                    publisher.delete_topic(name)
    except BaseException:
        with suppress(psycopg2.Error):
            owner.release(new)
        raise
    disposable.update((url.rstrip("/"), name) for name in names)


def _refuse_others(names: Sequence[str], publisher: QPublisher) -> None:
    for name in names:
        with suppress(TopicNotFound):
            topic = publisher.topic(name)
            if not is_marked(topic.description):
                raise Taken(_NOT_OURS.format(name, topic.head - topic.floor + 1), name)
