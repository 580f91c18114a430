"""Looks: what those who were woken look for, a few looks at a time, and one for all who ask the same.

One publish may wake ten thousand. Side by side they would fill the engine's pool, and some would find it busy for too
long; here each has its turn, and who asks what somebody else is about to ask gets the same answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Found = TypeVar("Found")

_AT_ONCE = 8


class Looks(Generic[Found]):
    """Looks that are about to be made, by what they look for."""

    def __init__(self) -> None:
        """Nobody looks yet."""
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._coming: dict[Hashable, asyncio.Task[Found]] = {}

    async def find(self, what: Hashable, look: Callable[[], Awaitable[Found]]) -> Found:
        """Look, or share a look that has not begun: what is found is never older than this call."""
        task = self._coming.get(what)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._in_turn(what, look))
            self._coming[what] = task
        return await asyncio.shield(task)  # who leaves does not end it for the others

    async def _in_turn(self, what: Hashable, look: Callable[[], Awaitable[Found]]) -> Found:
        async with self._turns:
            del self._coming[what]
            return await look()
