"""Tasks that run as long as the server does."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence

log = logging.getLogger(__name__)

_PAUSE = 1.0

Work = Callable[[], Coroutine[object, object, None]]


def begin(name: str, work: Work) -> asyncio.Task[None]:
    """Begin a task on the running loop; should its work ever fail, the log says so, and it begins again."""
    return asyncio.get_running_loop().create_task(_keep_on(name, work), name=name)


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_on(name: str, work: Work) -> None:
    while True:
        try:
            await work()
        except Exception:
            log.exception("the task %s has failed, and begins again", name)
        await asyncio.sleep(_PAUSE)
