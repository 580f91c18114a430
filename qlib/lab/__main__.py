"""`python -m qlib.lab`: the queue, and JupyterLab on the notebooks that take it apart."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from pathlib import Path

from qlib.lab.stack import Stack
from qlib.lab.stack.ends import when_ended
from qlib.lab.stack.guarded import ROOT, Guarded, StackError, environment, free_port

_DATA = Path(".queue")
_FIRST = "00_first_message.ipynb"
_EPILOG = """
Both listen on 127.0.0.1, the queue on port 8008 where that is free, and keep their data in .queue/.
The addresses are printed; from elsewhere, export QUEUE_URL=… with the queue's. Ctrl-C ends both.
"""


def main() -> int:
    """Run both until Ctrl-C, SIGTERM or the terminal's end; return the exit code."""
    argparse.ArgumentParser("python -m qlib.lab", description=__doc__, epilog=_EPILOG).parse_args()
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    when_ended(lambda: sys.exit(0))
    try:
        print("starting the queue and JupyterLab …", flush=True)
        with Stack(_DATA, free_port(8008)) as stack:
            print(f"queue server: {stack.url}", flush=True)
            _serve_notebooks(stack)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _serve_notebooks(stack: Stack) -> None:
    token = secrets.token_urlsafe(24)
    url = f"http://127.0.0.1:{free_port()}"
    jupyter = Guarded(
        _command(url.rpartition(":")[2]),
        f"{url}/api",
        "is running at",
        log=_DATA.with_name(_DATA.name + ".log"),
        environment=_environment() | {"JUPYTER_TOKEN": token},
    )
    try:
        print(f"JupyterLab:   {url}/lab/tree/{_FIRST}?token={token}", flush=True)
        print("Ctrl-C ends both.", flush=True)
        while stack.alive and jupyter.alive:
            time.sleep(0.2)
        raise StackError(f"one of them has ended: see {_DATA}.log")
    finally:
        jupyter.stop()


def _command(port: str) -> list[str]:
    root = ["--allow-root"] if os.geteuid() == 0 else []  # or Jupyter would refuse to start
    return [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", *root),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        f"--ServerApp.root_dir={ROOT / 'notebooks'}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]


def _environment() -> dict[str, str]:
    """Return where the kernels find qlib, and the data of the queue that runs beside them.

    Nothing names its address: each kernel has a queue of its own, unless it asks for this one.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return environment() | {
        "QUEUE_DATA": str(_DATA.absolute()),
        "PYTHONPATH": os.pathsep.join(paths),
    }


if __name__ == "__main__":
    sys.exit(main())
