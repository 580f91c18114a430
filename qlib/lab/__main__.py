"""`python -m qlib.lab`: the queue, and JupyterLab on your own copies of the chapters.

The chapters are copied into `my-notebooks/`, without outputs: write there whatever you like. When a
chapter has a newer version, a copy that you have written in stays, and the newer one lies beside it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Never

from qlib.lab.course.chapters import chapters
from qlib.lab.course.checking import WARNING, check
from qlib.lab.course.copies import lay, reset
from qlib.lab.stack import Stack
from qlib.lab.stack.ends import when_ended
from qlib.lab.stack.guarded import StackError, free_port
from qlib.lab.stack.jupyter import Jupyter

_DATA = Path(".queue")
_COPIES = Path("my-notebooks")
_PORT = 8008
_EPILOG = """
Without a command, both run until Ctrl-C. They listen on 127.0.0.1, the queue on port 8008 where that is
free, and keep their data in .queue/. The addresses are printed; from elsewhere, export QUEUE_URL=… with the
queue's. In a notebook, lab.up() takes a queue of its own, and lab.up(mine=True) this one.
"""


def main() -> int:
    """Do what the command line asks for; return the exit code."""
    options = _parser().parse_args()
    if options.command == "reset":
        return _reset(options.chapter)
    if options.command == "check":
        return check(options.folder)
    return _run(options.port, options.browser)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m qlib.lab", description=__doc__, epilog=_EPILOG)
    parser.add_argument("--port", type=_port, help="JupyterLab's; else that of the last start")
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="open none")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="")
    words = "give fresh copies back, of these chapters or of all; keep what you had beside them"
    back = commands.add_parser("reset", help=words, description=words)
    back.add_argument("chapter", nargs="*", help="its number, or its name")
    words = "run a student's copies, and tell which exercises are right"
    judge = commands.add_parser("check", help=words, description=words, epilog=WARNING)
    judge.add_argument("folder", type=Path, help="where the copies are")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _reset(names: list[str]) -> int:
    here = Path.cwd()
    try:
        for words in reset(here if here.name == _COPIES.name else _COPIES, names):
            print(words)
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    print("Where one is open in JupyterLab: File, Reload Notebook from Disk.")
    return 0


def _run(port: int | None, browser: bool) -> int:
    """Run both until Ctrl-C, SIGTERM or the terminal's end."""
    signal.signal(signal.SIGINT, lambda *_: _end())
    when_ended(_end)
    try:
        for name in lay(_COPIES):
            print(f"{_COPIES / name} is new", flush=True)
        print("starting the queue and JupyterLab …", flush=True)
        with Stack(_DATA, free_port(_PORT)) as stack:
            _tell(stack)
            with Jupyter(
                _COPIES, chapters()[0].name, _DATA, _DATA / "lab-port", port, browser
            ) as lab:
                print(f"JupyterLab:   {lab.url}\nCtrl-C ends both.", flush=True)
                while stack.alive and lab.alive:
                    time.sleep(0.2)
                raise StackError(f"one of them has ended: see {_DATA}.log")
    except StackError as error:
        print(error, file=sys.stderr)
        return 1


def _end() -> Never:
    print("ending …", flush=True)  # which takes some seconds
    sys.exit(0)


def _tell(stack: Stack) -> None:
    if not stack.url.endswith(f":{_PORT}"):
        print(f"port {_PORT} is taken: elsewhere, export QUEUE_URL={stack.url}")
    print(f"queue server: {stack.url}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
