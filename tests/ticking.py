"""A ticking task, which tells for how long its loop has stood still."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from tests.loop import Loop

_EVERY = 0.005


class Ticks:
    """`longest` is the longest time, in seconds, by which a tick was late; `count` says how many there were."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.count = 0

    async def run(self) -> None:
        """Tick for ever."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(_EVERY)
            now = loop.time()
            self.longest = max(self.longest, now - last - _EVERY)
            self.count += 1
            last = now


@contextmanager
def ticking(loop: Loop) -> Iterator[Ticks]:
    """Tick on a loop."""
    ticks = Ticks()
    task = loop.submit(ticks.run())
    try:
        yield ticks
    finally:
        task.cancel()
