"""Tasks that run as long as the server does."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence

log = logging.getLogger(__name__)


def begin(name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
    """Begin a task on the running loop; should it ever fail, the log says so."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(_ended)
    return task


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("the task %s has failed", task.get_name(), exc_info=error)
