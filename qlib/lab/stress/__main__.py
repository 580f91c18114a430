"""`python -m qlib.lab.stress`: push the queue hard, look for errors, tell what was found."""

from __future__ import annotations

import argparse
import os
import random
import secrets
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from qlib.errors import QueueError
from qlib.lab.checker import check
from qlib.lab.stack.ends import give_up, when_ended
from qlib.lab.stack.guarded import StackError
from qlib.lab.stress.kills import Target
from qlib.lab.stress.report import conclusion, table
from qlib.lab.stress.run import Run, StressError
from qlib.lab.stress.workers import Plan

_EPILOG = """
The queue is that of $QUEUE_URL and $QUEUE_TOKEN, else a private one, which is gone afterwards. Only
of a private one is it known when its database crashed. In another one a message that two workers
have at once goes unnoticed: a crash may have undone the first lease.
Ctrl-C ends the publishing early; the second one gives up, as SIGTERM and the terminal's end do. The
exit code is 0 when no promise was broken, 1 when one was, and 2 when there is no verdict.
"""


def main() -> int:
    """Run, and return the exit code."""
    options = _options()
    when_ended(give_up)
    tqdm.monitor_interval = 0  # no thread of its own
    try:
        with ExitStack() as opened:
            directory = Path(
                opened.enter_context(tempfile.TemporaryDirectory(prefix="queue-stress-"))
            )
            target = None
            if not os.environ.get("QUEUE_URL"):
                target = opened.enter_context(_target(options, directory / "queue"))
            urls = target.urls if target else (os.environ["QUEUE_URL"],)
            return _run(options, _plan(options, urls, directory / "records"), target)
    except (QueueError, StackError, StressError) as error:
        print(f"no verdict: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("no verdict: given up", file=sys.stderr)
    return 2


def _target(options: argparse.Namespace, directory: Path) -> Target:
    directory.mkdir()
    return Target(directory, 1 + options.kill, options.seed)


def _run(options: argparse.Namespace, plan: Plan, target: Target | None) -> int:
    print(_title(options), flush=True)
    # Nobody but this process heeds Ctrl-C: what it starts from here on inherits that.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Run(plan, target) as run:
            run.start()
            signal.signal(signal.SIGINT, lambda number, frame: _interrupt(run))
            run.push(options.seconds, options.resets)
            run.drain(options.seconds)
            history, failures = run.history(), run.failures()
            # Whoever disturbs the server meanwhile may, but every request was a right one.
            verdict = check(history, faults=True, valid=True)
            print(table(history), end="\n\n")
            if verdict and not verdict.published:
                raise StressError("no publish was answered")
            print(conclusion(history, verdict, failures, run.killed))
            return 0 if verdict and not failures else 1
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(run: Run) -> None:
    if run.interrupted:
        raise KeyboardInterrupt
    run.interrupted = True


def _plan(options: argparse.Namespace, urls: tuple[str, ...], directory: Path) -> Plan:
    directory.mkdir()
    prefix = f"stress-{secrets.token_hex(4)}"
    topics = tuple(f"{prefix}-{number}" for number in range(options.topics))
    crew = options.publishers, options.subscribers, options.workers
    return Plan(urls, options.seed, topics, *crew, options.kill, directory)


def _title(options: argparse.Namespace) -> str:
    crew = f"{options.publishers} publishers, {options.subscribers} subscribers"
    if options.workers:
        crew += f", {options.workers} workers"
    return f"{crew}, {options.topics} topics, {options.seconds} s, seed {options.seed}\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m qlib.lab.stress",
        description="Push the queue hard with many processes, then check all they saw.",
        epilog=_EPILOG,
    )
    for name, default, text in (
        ("seconds", 10, "how long to publish"),
        ("publishers", 4, "publishing processes"),
        ("subscribers", 4, "subscribing processes"),
        ("workers", 0, "processes that share what a topic has; one after the other is killed"),
        ("topics", 2, "topics, each subscriber reads one of them"),
        ("seed", random.randrange(10**6), "what the choices hang on, random unless given"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, help=f"{text} [{default}]", metavar="N"
        )
    parser.add_argument("--resets", action="store_true", help="reset and seek meanwhile")
    parser.add_argument(
        "--kill", action="store_true", help="kill servers and database meanwhile, two and one"
    )
    options = parser.parse_args()
    if options.kill and os.environ.get("QUEUE_URL"):
        parser.error("the queue of $QUEUE_URL is not ours to kill")
    if min(options.seconds, options.publishers, options.subscribers, options.topics) < 1:
        parser.error("there must be at least one of each")
    if options.workers < 0:
        parser.error("there cannot be fewer than no workers")
    return options


if __name__ == "__main__":
    sys.exit(main())
