#!/usr/bin/env bash
# A good guess: what an asyncio task prints after its cell has ended lands in that cell, or in the one that runs then. So a
#   notebook whose consumer runs in the background keeps its output when nbclient executes it (nbconvert --execute,
#   jupyter execute, papermill).
# What happens: nbclient drops it: prints, warnings of logging, display(), also what call_later prints. The kernel sends
#   all of it as output of the first cell (the task has inherited that context), and nbclient takes only messages of the
#   cell that runs now. The task did its work, and the executed notebook shows nothing of it, and no error. What a thread
#   prints goes to the running cell, and stays.
# Seen with nbclient 0.11.0, ipykernel 7.4.0, jupyter_client 8.10.0. (ipykernel 6.31.0: the same, but display() arrives
#   in the running cell, and what a thread prints is dropped too.)
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq nbclient==0.11.0 ipykernel==7.4.0 jupyter_client==8.10.0
cd "$tmp"
export IPYTHONDIR="$tmp/ipython" JUPYTER_RUNTIME_DIR="$tmp/runtime" JUPYTER_PATH="$tmp/venv/share/jupyter"
venv/bin/python -W ignore - <<'PY' 2> log || { cat log >&2; exit 1; }
import importlib.metadata, queue, time
import nbclient
from jupyter_client.manager import start_new_kernel
from nbformat.v4 import new_code_cell, new_notebook

print({name: importlib.metadata.version(name) for name in ("nbclient", "ipykernel", "jupyter_client")})
CELLS = ["""
import asyncio, logging, threading, time
done = []
async def consume():
    await asyncio.sleep(0.5)
    print("task: print")
    logging.warning("task: logging")
    display("task: display")
    done.append("task")
def consume_in_thread():
    time.sleep(0.5)
    print("thread: print")
    done.append("thread")
task = asyncio.create_task(consume())
asyncio.get_running_loop().call_later(0.5, print, "call_later: print")
thread = threading.Thread(target=consume_in_thread)
thread.start()
print("cell 1")
""", """
await asyncio.sleep(1.5)
thread.join()
assert task.done() and task.exception() is None
print("cell 2:", sorted(done), "have run")
"""]

def text(kind, content):
    return content["text"] if kind == "stream" else content["data"]["text/plain"] + "\n"

# what the kernel sends, and as output of which cell
manager, client = start_new_kernel(kernel_name="python3")
sent = {}
try:
    ids = [client.execute(source) for source in CELLS]
    end, idle = time.monotonic() + 30, set()
    while not idle.issuperset(ids) and time.monotonic() < end:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        kind, parent = message["msg_type"], message["parent_header"].get("msg_id")
        if kind in ("stream", "display_data"):
            sent[ids.index(parent)] = sent.get(ids.index(parent), "") + text(kind, message["content"])
        elif kind == "status" and message["content"]["execution_state"] == "idle":
            idle.add(parent)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)

notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
nbclient.NotebookClient(notebook, kernel_name="python3", timeout=30).execute()
kept = ["".join(text(o.output_type, o) for o in cell.outputs) for cell in notebook.cells]
for n in range(len(CELLS)):
    print(f"cell {n + 1}: the kernel sent {sent[n].splitlines()}\n        nbclient kept   {kept[n].splitlines()}")
for late in ("task: print", "task: logging", "task: display", "call_later: print"):
    assert late in sent[0] and late not in "".join(kept), late
assert "thread: print" in sent[1] and "thread: print" in kept[1]
assert "cell 1" in kept[0] and "cell 2: ['task', 'thread'] have run" in kept[1]
PY
