"""Runs a student's copies, and tells which exercises are right."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from qlib.lab.course.chapters import NOTEBOOKS, Cell, has_tag, read, source
from qlib.lab.course.exercise import OPEN
from qlib.lab.course.notebooks import QUIET, kernel_environment

WARNING = """
Every notebook in the folder is run, in a kernel and with a queue of its own, and nothing is written back. Mind
that a student's code runs with your rights: it can do on this machine whatever you can. The exit code is 0
when every exercise is there and right, 1 when not, and 2 when there is no notebook.
"""

_CELL = 60.0  # seconds
_CHAPTER = 300.0


@dataclass(frozen=True)
class Result:
    """How the exercises of a chapter went: a count of `right`, `wrong` and `open`, and remarks."""

    name: str
    counts: Counter[str]
    remarks: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.remarks or self.counts["wrong"] or self.counts["open"])


def check(folder: Path) -> int:
    """Run every notebook in a folder, and print a table of the exercises; return the exit code."""
    paths = sorted(folder.glob("*.ipynb"))
    if not paths:
        print(f"there is no notebook in {folder}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="queue-check-") as directory:
        environment = kernel_environment(Path(directory))
        os.environ.clear()
        os.environ.update(
            {name: it for name, it in environment.items() if not name.startswith("QUEUE_")}
        )
        results = []
        for number, path in enumerate(paths, 1):
            print(f"{number} of {len(paths)}: {path.name} …", file=sys.stderr, flush=True)
            results.append(judge(path))
    print("\n".join(table(results)))
    return 0 if all(result.is_right for result in results) else 1


def judge(path: Path, cell_time: float = _CELL, chapter_time: float = _CHAPTER) -> Result:
    """Run a copy of a chapter in a kernel of its own, and look at its exercises.

    Cells go on after errors. One that takes longer than `cell_time` seconds is interrupted, which
    is an error; a chapter that takes longer than `chapter_time` is given up.
    """
    try:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        _run(notebook, path.parent, cell_time, chapter_time)
        counts, remarks = _judged(notebook.cells)
    except Exception as error:  # whatever a student's file or code has done: the others go on
        words = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return Result(path.stem, Counter(), (f"cannot be run: {words}",))
    return Result(path.stem, counts, (*remarks, *_missing(path, counts)))


def table(results: Iterable[Result]) -> list[str]:
    """Return the lines of a table: a row a chapter, and the sum."""
    kinds = ("right", "wrong", "open")
    rows = [(result.name, result.counts, "; ".join(result.remarks)) for result in results]
    rows.append(("all", sum((counts for _, counts, _ in rows), Counter()), ""))
    width = max(len(name) for name, *_ in rows)
    head = " ".join([f"{'chapter':{width}}", *(f"{kind:>5}" for kind in kinds)])
    return [head] + [
        " ".join(
            [f"{name:{width}}", *(f"{counts[kind]:5}" for kind in kinds), f" {remarks}"]
        ).rstrip()
        for name, counts, remarks in rows
    ]


def _run(notebook: nbformat.NotebookNode, folder: Path, each: float, together: float) -> None:
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        allow_errors=True,
        timeout=int(each),
        interrupt_on_timeout=True,
        extra_arguments=QUIET,
        resources={"metadata": {"path": str(folder)}},
    )
    deadline = time.monotonic() + together
    try:
        asyncio.run(asyncio.wait_for(client.async_execute(), together))
    except (TimeoutError, DeadKernelError):  # nbclient takes the first for the second
        if time.monotonic() < deadline:
            raise
        raise TimeoutError(f"it takes longer than {together:.0f} seconds") from None


def _judged(cells: list[Cell]) -> tuple[Counter[str], list[str]]:
    counts: Counter[str] = Counter()
    remarks = []
    originals = {
        source(cell)
        for path in NOTEBOOKS.glob("*.ipynb")
        for cell in read(path)["cells"]
        if has_tag(cell, "exercise-check")
    }
    for ask, check in zip(cells, [*cells[1:], None], strict=True):
        if not has_tag(ask, "exercise"):
            continue
        if check is None or not has_tag(check, "exercise-check"):
            remarks.append("an exercise has no check behind it")
        elif source(check) not in originals:
            remarks.append("a check is not the chapter's own")
        else:
            counts[_verdict(ask, check)] += 1
    return counts, remarks


def _verdict(ask: Cell, check: Cell) -> str:
    outputs = [*ask["outputs"], *check["outputs"]]
    if any(output["output_type"] == "error" for output in outputs):
        return "wrong"
    said = "".join(output.get("text", "") for output in check["outputs"])
    return "open" if OPEN in said else "right"


def _missing(path: Path, counts: Counter[str]) -> list[str]:
    number = path.name[:3]
    for chapter in NOTEBOOKS.glob(f"{number}*.ipynb"):
        wanted = sum(has_tag(cell, "exercise") for cell in read(chapter)["cells"])
        if counts.total() < wanted:
            return [f"{counts.total()} of {wanted} exercises found"]
    return []
