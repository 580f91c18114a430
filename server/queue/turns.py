"""Turns at the engine: one publish may wake ten thousand, and they look a few at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

LOOKS = 8  # at a time: more would fill the engine's pool, and some find it busy
ITS_LOOKS = LOOKS // 2  # of one topic: its share of the pool may be used up, and others' is not


class Turns:
    """Who may look now; the others wait, in the order in which they came."""

    def __init__(self) -> None:
        """Let nobody look yet."""
        self._turns = asyncio.Semaphore(LOOKS)
        self._its_turns = WeakValueDictionary[str, asyncio.Semaphore]()  # while somebody needs them

    def __len__(self) -> int:
        """Return of how many topics somebody looks, or waits for a turn."""
        return len(self._its_turns)

    @asynccontextmanager
    async def of(self, topic: str) -> AsyncIterator[None]:
        """Wait for a turn to look at a topic, and have it."""
        its_turns = self._its_turns.setdefault(topic, asyncio.Semaphore(ITS_LOOKS))
        async with its_turns, self._turns:
            yield
