"""Housekeeping: removes, now and then and chunk by chunk, what nobody needs any more."""

import asyncio
import logging

from server.engines import Engine
from server.engines.errors import EngineError
from server.queue.tasks import begin, end

log = logging.getLogger(__name__)

_BETWEEN_ROUNDS = 60.0
_BETWEEN_CHUNKS = 0.1


class Housekeeping:
    """A task that tidies until there is nothing to do, and begins again a minute later."""

    def __init__(self, engine: Engine) -> None:
        """Start nothing yet."""
        self._engine = engine
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the task."""
        self._tasks = [begin("housekeeping", self._run)]

    async def stop(self) -> None:
        """End the task."""
        await end(self._tasks)

    async def _run(self) -> None:
        pause = _BETWEEN_ROUNDS
        while True:
            await asyncio.sleep(pause)
            try:
                pause = _BETWEEN_CHUNKS if await self._engine.tidy() else _BETWEEN_ROUNDS
            except EngineError as error:
                log.warning("not tidied: %s", error.detail)
                pause = _BETWEEN_ROUNDS
