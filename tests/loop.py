"""An event loop in a thread of its own: tests hand it coroutines, as Flask's threads do in the worker."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import uvloop

P = ParamSpec("P")
T = TypeVar("T")
ENOUGH = 60.0  # seconds; no test hangs


class Loop:
    """A loop that runs until `close`. What it is handed runs there, whoever calls."""

    def __init__(
        self, new: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    ) -> None:
        self.loop = new()
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop")
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Begin a coroutine; return the future of its result, whose `cancel` cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = ENOUGH) -> T:
        """Run a coroutine; return its result, or raise what it raises."""
        return self.submit(coroutine).result(timeout)

    def call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call a function that belongs on the loop; return its result, or raise what it raises."""

        async def called() -> T:
            return function(*arguments, **named)

        return self.run(called())

    def close(self) -> None:
        """Cancel what still runs, wait for its end, and end the thread."""
        self.run(_end_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(ENOUGH)
        self.loop.close()


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


@contextmanager
def looping(
    new: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> Iterator[Loop]:
    """Run a loop; uvloop's, unless another kind is asked for."""
    loop = Loop(new)
    try:
        yield loop
    finally:
        loop.close()
