"""A bounded pool of sessions whose exhaustion is a bounded wait, and of which nobody takes more than a part."""

import asyncio
import itertools
import logging
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import psycopg2

from server.engines.errors import Unavailable
from server.engines.postgres.connecting import connect
from server.engines.postgres.driven import Rows
from server.engines.postgres.failures import NotWritable
from server.engines.postgres.session import Session

log = logging.getLogger(__name__)


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
        self._left = size
        self._reserved = size // 2
        self._held: Counter[Hashable] = Counter()
        # who waits, by user; each with a number, in the order in which they came
        self._lines: dict[Hashable, OrderedDict[asyncio.Future[None], int]] = {}
        self._numbers = itertools.count()
        self._idle: list[Session] = []  # the last one used is the first one taken: it is warm
        self._given_up: set[asyncio.Task[None]] = set()

    async def run(self, sql: str, values: Sequence[Any], user: Hashable = None) -> Rows:
        """Run a statement on a session, out of the share of `user`. Raises as `take` and `Session.run`."""
        session = await self.take(user)
        try:
            return await session.run(sql, values)
        finally:
            self.give_back(session, user)

    async def take(self, user: Hashable = None) -> Session:
        """Lend a session, out of the share of `user`. Raises Unavailable (outcome none) when none can be had."""
        if self._may_enter(user):
            self._count(user)
        else:
            await self._wait(user)
        try:
            turn = self.turns
            session = self._warm() or await self._new()
            session.turn = turn
            return session
        except BaseException:
            self._leave(user)
            raise

    def give_back(self, session: Session, user: Hashable = None) -> None:
        """Take a session back; one that is busy, since its caller has left, has its place until it is not."""
        if session.busy:
            task = asyncio.create_task(self._give_back_later(session, user))
            self._given_up.add(task)
            task.add_done_callback(self._given_up.discard)
            return
        if not session.writable:
            self._turn()
        if session.usable and session.turn == self.turns:
            self._idle.append(session)
        else:
            session.close()
        self._leave(user)

    async def close(self) -> None:
        """Close the sessions: those that are idle now, the others when they are given back."""
        self._turn()
        for task in self._given_up:
            task.cancel()
        await asyncio.gather(*self._given_up, return_exceptions=True)

    async def _give_back_later(self, session: Session, user: Hashable) -> None:
        try:
            await session.settled()
        except asyncio.CancelledError:
            session.close()
        self.give_back(session, user)

    def _may_enter(self, user: Hashable) -> bool:
        first = user is None or not self._held[user]
        return self._left > (0 if first else self._reserved)

    def _count(self, user: Hashable) -> None:
        self._left -= 1
        self._held[user] += 1

    async def _wait(self, user: Hashable) -> None:
        loop = asyncio.get_running_loop()
        served = loop.create_future()
        line = self._lines.setdefault(user, OrderedDict())
        line[served] = next(self._numbers)
        timer = loop.call_later(self._patience, self._refuse, served)
        try:
            await served
        except BaseException:
            if served in line:
                self._strike(user, served)
            else:  # cancelled at the very moment when it was served
                self._leave(user)
            raise
        finally:
            timer.cancel()

    def _refuse(self, served: "asyncio.Future[None]") -> None:
        if not served.done():
            said = (
                "too many wait for this topic"
                if self._left
                else "all database connections are busy"
            )
            served.set_exception(Unavailable(said))

    def _leave(self, user: Hashable) -> None:
        self._left += 1
        self._held[user] -= 1
        if not self._held[user]:
            del self._held[user]
        while self._left and (may := [*self._who_may()]):
            _, served, next_user = min(may, key=itemgetter(0))
            self._strike(next_user, served)
            self._count(next_user)
            served.set_result(None)
            if next_user == user:
                return  # all is as it was before: nobody else may

    def _who_may(self) -> Iterator[tuple[int, "asyncio.Future[None]", Hashable]]:
        """Yield the first who waits of each user that may enter."""
        for user, line in self._lines.items():
            if self._may_enter(user):
                for served, number in line.items():
                    if not served.done():  # else it is leaving
                        yield number, served, user
                        break

    def _strike(self, user: Hashable, served: "asyncio.Future[None]") -> None:
        line = self._lines[user]
        del line[served]
        if not line:
            del self._lines[user]

    def _warm(self) -> Session | None:
        while self._idle:
            idle = self._idle.pop()
            if idle.quiet:
                return idle
            idle.close()
        return None

    async def _new(self) -> Session:
        try:
            return await connect(self._dsn, **self._settings)
        except psycopg2.Error as error:
            said = str(error).strip().replace("\n", " ")
            log.warning("no connection to the database: %s", said)
            if isinstance(error, NotWritable):
                self._turn()
                raise Unavailable(said) from None
            raise Unavailable("the database does not answer") from None

    def _turn(self) -> None:
        # who takes no writes was led to, or was demoted: the others may lead there, too
        self.turns += 1
        while self._idle:
            self._idle.pop().close()
