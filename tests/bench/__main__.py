"""`python -m tests.bench`: measure, part by part, and report."""

from __future__ import annotations

import argparse
import sys
import traceback
from importlib import import_module
from pathlib import Path

from qlib.lab.stack.ends import give_up, when_ended
from tests.bench import base, checkout, idle, pictures, readme, report
from tests.bench.machine import describe
from tests.bench.stand import Stand

PARTS = (
    "raw",
    "publish",
    "publishers",
    "buffered",
    "fetch",
    "fanout",
    "leases",
    "latency",
    "waiting",
    "held",
    "growth",
    "checker",
    "base",
    "idle",
)
ROUNDS = 5
_ALL = f"all but {idle.PART} unless given; {base.PART} only when {checkout.VARIABLE} names another checkout"


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; return 1 when one failed."""
    chosen = _chosen(arguments)
    failed = []
    try:
        for part in chosen.part:
            try:
                _run(part, chosen.rounds, chosen.out)
            except Exception:
                traceback.print_exc()
                failed.append(part)
    except KeyboardInterrupt:
        failed.append(f"interrupted in {part}")
    _report(chosen.out)
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def _run(part: str, rounds: int, out: Path) -> None:
    with Stand() as stand:
        machine = describe(stand.cursor())
        if part == base.PART and (other := checkout.base()):
            machine["base"] = other.commit
        results = import_module(f"tests.bench.{part}").run(stand, rounds)
    report.store(out, part, rounds, machine, results)
    print(report.table(results), flush=True)


def _report(out: Path) -> None:
    found = report.load(out)
    pictures.draw(out, report.results(found))
    print(report.summary(found))
    if found and out.resolve() == report.RESULTS:
        readme.write(found)


def _chosen(arguments: list[str] | None) -> argparse.Namespace:
    """Read the arguments. Exits with a message when they make no sense, or BENCH_BASE does not."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        other = checkout.base()
    except checkout.NoCheckoutError as error:
        parser.error(str(error))
    if other is None and base.PART in chosen.part:
        parser.error(
            f"the part {base.PART} needs {checkout.VARIABLE}, another checkout of this project"
        )
    left_out = {idle.PART} if other else {idle.PART, base.PART}
    chosen.part = chosen.part or [part for part in PARTS if part not in left_out]
    return chosen


def _parser() -> argparse.ArgumentParser:
    def part(name: str) -> str:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name!r} is no part: {', '.join(PARTS)}")
        return name

    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure the queue beside Postgres itself and beside other queues.",
        epilog="\n".join(["parts:", *(f"  {part:12}{_what(part)}" for part in PARTS)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", nargs="*", type=part, metavar="PART", help=_ALL)
    parser.add_argument("--rounds", type=_positive, default=ROUNDS, help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=report.RESULTS, help="directory for results and pictures"
    )
    return parser


def _what(part: str) -> str:
    found = import_module(f"tests.bench.{part}").__doc__
    assert found, part
    return found.splitlines()[0]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return int(text)


if __name__ == "__main__":
    when_ended(give_up)
    sys.exit(main())
