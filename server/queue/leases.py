"""Leases: concurrent leases of a subscriber share a statement, and when there is nothing to do they wait together.

How, `server.queue.crew` says. Unlike a fetch, a lease takes what it finds: one whose outcome is unknown is never made
again, and one that was made for a caller who has left before its answer is given back as if nobody had tried. Nobody
but this server knows its id then; all the same it may be out until it expires, should that fail.
"""

import asyncio
import logging
from collections.abc import Sequence

from server.engines import Engine, Lease, Leased, Nack
from server.engines.errors import EngineError
from server.queue.crew import Crew, Found
from server.queue.turns import Turns
from server.queue.wakeups import Wakeups, work_of

log = logging.getLogger(__name__)


class Leases:
    """The crews of all subscribers for which somebody wants a lease now."""

    def __init__(self, engine: Engine, wakeups: Wakeups, turns: Turns) -> None:
        """Know nobody yet."""
        self._engine = engine
        self._wakeups = wakeups
        self._turns = turns
        self._crews: dict[str, Crew] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # a loop does not keep them itself

    async def lease(self, topic: str, wanted: Lease, wait: float = 0.0) -> Leased:
        """Lease messages; when there are none, wait for some for so many seconds.

        Raises EngineError; Unavailable when too many wait already. Who is cancelled gets none.
        """
        name = work_of(topic, wanted.subscriber)
        crew = self._crews.get(name)
        if crew is None:
            crew = self._crews[name] = self._crew(topic, wanted.subscriber)
            # before the first look, so that nothing falls in between
            self._wakeups.add(crew, topic, name)
        try:
            return await crew.lease(wanted, wait)
        finally:
            if crew.idle and self._crews.get(name) is crew:
                del self._crews[name]
                self._wakeups.remove(crew, topic, name)

    async def stop(self) -> None:
        """Wait until what has to be given back is."""
        await asyncio.gather(*self._tasks)

    def _crew(self, topic: str, subscriber: str) -> Crew:
        def look(wanted: Sequence[Lease]) -> "asyncio.Task[Sequence[Found]]":
            return asyncio.create_task(self._look(topic, wanted))

        def give_back(lease: str) -> None:
            nack = Nack(subscriber, lease, untried=True)
            task = asyncio.create_task(self._give_back(topic, nack))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return Crew(topic, subscriber, self._turns, self._wakeups, look, give_back)

    async def _look(self, topic: str, wanted: Sequence[Lease]) -> Sequence[Found]:
        try:
            found = await self._engine.lease(topic, wanted)
            if len(found) != len(wanted):
                raise RuntimeError(f"{len(found)} answers to {len(wanted)} leases")
            return found
        except Exception as error:  # whatever it is, nobody may wait for ever
            one_is_wrong = isinstance(error, EngineError) and error.code == "invalid_request"
            if not one_is_wrong or len(wanted) == 1:
                return [error] * len(wanted)
        middle = len(wanted) // 2
        return [
            *await self._look(topic, wanted[:middle]),
            *await self._look(topic, wanted[middle:]),
        ]

    async def _give_back(self, topic: str, nack: Nack) -> None:
        try:
            await self._engine.nack(topic, nack)
        except EngineError as error:
            log.warning("a lease whose caller has left is out until it expires: %s", error.detail)
        else:
            self._wakeups.happened(work_of(topic, nack.subscriber))
