"""Servers without HTTP, on a loop: what their routes work with, and engines that are hard of hearing, or see little."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from server.engines import Lease, LeaseAck, LeaseAcked, Leased
from server.engines.errors import Unavailable
from server.engines.postgres.engine import PostgresEngine
from server.http import work
from server.http.operations import Context
from server.http.routes import leases
from server.queue.fusion import Fusion
from server.queue.leases import Leases
from server.queue.wakeups import Wakeups

ENOUGH = 40  # seconds: nothing here takes that long


class Counting(PostgresEngine):
    """An engine that remembers how many leases, and acks of leases, it was given at a time, and whose.

    `rounds` is how often the wakeups have looked at what is waited for.
    """

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.looks: list[int] = []
        self.workers: set[str | None] = set()
        self.acks: list[int] = []
        self.rounds = 0

    async def acts(self, works: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, int]]:
        """Count."""
        found = await super().acts(works)
        self.rounds += 1
        return found

    async def lease(self, topic: str, leases: Sequence[Lease]) -> list[Leased]:
        """Count."""
        self.looks.append(len(leases))
        self.workers |= {one.worker for one in leases}
        return await super().lease(topic, leases)

    async def ack_leases(self, topic: str, acks: Sequence[LeaseAck]) -> list[LeaseAcked]:
        """Count."""
        self.acks.append(len(acks))
        return await super().ack_leases(topic, acks)


class Blind(Counting):
    """An engine that cannot look at what others did: it only hears."""

    async def heads(self, topics: list[str]) -> dict[str, int]:
        """Fail as a busy pool does."""
        raise Unavailable("all database connections are busy")

    acts: Any = heads


class Deaf(Counting):
    """An engine that hears nothing: it only looks."""

    async def listen(self) -> AsyncIterator[set[str]]:
        """Hear nothing."""
        await asyncio.Event().wait()
        yield set()


class Lonely(Deaf, Blind):
    """An engine that neither hears nor sees what others did."""


class Place:
    """A server: it leases to workers of `s` on the topic `t`."""

    def __init__(self, engine: Counting) -> None:
        self.engine = engine
        self.wakeups = Wakeups(engine, 10_000)
        fusion = Fusion(engine, self.wakeups.happened)
        self.context = Context(
            engine, self.wakeups, fusion, Leases(engine, self.wakeups, fusion.turns)
        )

    async def lease(self, wait: float = 60, **wanted: Any) -> Any:
        """Lease messages; return the answer."""
        asked = work.NewLease(wait=wait, lease_seconds=600.0, **wanted)  # none expires in a test
        answer = await leases.lease(self.context, asked, "t", "s")
        return json.loads(answer.text)

    async def waits(self, workers: int = 1, wait: float = 60) -> list[asyncio.Task[Any]]:
        """Have workers wait; return when they do, and nothing is about to wake them."""
        before = self.wakeups.waiting
        tasks = [asyncio.ensure_future(self.lease(wait, worker=f"w{n}")) for n in range(workers)]
        await until(lambda: self.wakeups.waiting == before + workers)
        if not isinstance(self.engine, Blind):
            await until(lambda: {"t", "t/s"} <= set(self.wakeups._seen))
            await until(self.quiet)
        return tasks

    def quiet(self) -> bool:
        """Whether no look is being made."""
        return all(crew._task is None for crew in self.context.leases._crews.values())


@asynccontextmanager
async def places(*engines: Counting) -> AsyncIterator[list[Place]]:
    """Start servers, each on an engine; in the end nothing of them is left."""
    made = [Place(engine) for engine in engines]
    for one in made:
        one.wakeups.start()
    try:
        yield made
    finally:
        for one in made:
            await one.wakeups.stop()
            await one.context.leases.stop()
            await until(one.quiet)
            await one.engine.close()


async def until(condition: Callable[[], object]) -> None:
    """Let others have the loop until a condition holds."""
    async with asyncio.timeout(ENOUGH):
        while not condition():
            await asyncio.sleep(0.001)
