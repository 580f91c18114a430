#!/usr/bin/env bash
# A good guess: a coroutine that is cancelled ends cancelled. So `asyncio.wait_for(client.async_execute(), 5)` around a
#   notebook that takes longer raises TimeoutError, and the task of a notebook that somebody cancels is cancelled.
# What happens: nbclient takes the cancellation for the kernel's death. wait_for, asyncio.timeout and a cancelled task all
#   raise DeadKernelError("Kernel died"), and task.cancelled() is False. The kernel was alive until then, as the control
#   shows: the same notebook under a longer limit runs to its end. The timeout of nbclient's own, of one cell, raises
#   CellTimeoutError. So a runner that restarts dead kernels restarts late ones, and a shutdown that cancels its tasks
#   gets errors.
# Seen with nbclient 0.11.0, ipykernel 7.4.0, jupyter_client 8.10.0, Python 3.11.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq nbclient==0.11.0 ipykernel==7.4.0 jupyter_client==8.10.0
cd "$tmp"
export IPYTHONDIR="$tmp/ipython" JUPYTER_RUNTIME_DIR="$tmp/runtime" JUPYTER_PATH="$tmp/venv/share/jupyter"
venv/bin/python -W ignore - <<'PY' 2> log || { cat log >&2; exit 1; }
import asyncio, importlib.metadata, pathlib, sys
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

print({name: importlib.metadata.version(name) for name in ("nbclient", "ipykernel", "jupyter_client")})
BEGUN = pathlib.Path("begun")

def notebook(seconds):
    source = f"import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep({seconds})\nprint('slept')"
    return NotebookClient(new_notebook(cells=[new_code_cell(source)]), kernel_name="python3")

async def begun(task):
    while not BEGUN.exists() and not task.done():
        await asyncio.sleep(0.05)

async def waited_for(seconds, limit):
    """Give the limit to a notebook whose cell has begun, so that a slow start is no part of it."""
    task = asyncio.create_task(notebook(seconds).async_execute())
    await begun(task)
    return await asyncio.wait_for(task, limit)

async def within_timeout():
    async with asyncio.timeout(20):
        await notebook(600).async_execute()

async def cancelled():
    task = asyncio.create_task(notebook(600).async_execute())
    await begun(task)
    task.cancel()
    try:
        await task
    finally:
        print("task.cancelled():", task.cancelled())

async def plain():
    task = asyncio.create_task(asyncio.sleep(600))
    return await asyncio.wait_for(task, 1)

def told(what, coroutine):
    BEGUN.unlink(missing_ok=True)
    try:
        ended = asyncio.run(coroutine)
        answer = ended.cells[0].outputs[0].text.strip()
    except BaseException as error:
        answer = type(error).__name__
    print(f"{what}: {answer}")
    return answer

found = [
    told("control, asyncio.sleep under wait_for", plain()),
    told("control, a notebook that is quick enough", waited_for(1, 120)),
    told("a slow notebook under wait_for", waited_for(600, 2)),
    told("a slow notebook under asyncio.timeout", within_timeout()),
    told("a notebook whose task is cancelled", cancelled()),
]
sys.exit(found != ["TimeoutError", "slept", *["DeadKernelError"] * 3])
PY
