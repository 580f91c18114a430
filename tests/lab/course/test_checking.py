"""A student's copies are run, and judged by the checks of the chapters."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qlib.lab.course.chapters import NOTEBOOKS, Cell, Notebook, has_tag, read, source
from qlib.lab.course.checking import judge
from qlib.lab.course.copies import lay

ROOT = NOTEBOOKS.parent
FIRST = "00_first_message.ipynb"
RIGHT = 'mailer = QSubscriber("orders", "mailer", start=2)'
WRONG = 'mailer = QSubscriber("orders", "mailer", start=1)'


def exercise(notebook: Notebook) -> tuple[Cell, Cell]:
    """Return the cell that asks, and the one behind it."""
    cells = notebook["cells"]
    (index,) = [number for number, cell in enumerate(cells) if has_tag(cell, "exercise")]
    return cells[index], cells[index + 1]


def answered(text: str) -> Callable[[Notebook], object]:
    def answer(notebook: Notebook) -> None:
        ask, _ = exercise(notebook)
        ask["source"] = source(ask).replace("mailer = ...", text)

    return answer


def copy(folder: Path, change: Callable[[Notebook], object], name: str = FIRST) -> Path:
    """Lay the chapters, and keep the first one alone, changed, under a name."""
    folder.mkdir(exist_ok=True)
    lay(laid := folder / "laid")
    notebook = read(laid / FIRST)
    change(notebook)
    for path in laid.iterdir():
        path.unlink()
    laid.rmdir()
    (folder / name).write_text(json.dumps(notebook))
    return folder / name


def short(*sources: str) -> Callable[[Notebook], object]:
    """Keep nothing but the exercise, and these cells before it."""

    def shorten(notebook: Notebook) -> None:
        ask, check = exercise(notebook)
        code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        cells = [code | {"id": f"c{n}", "source": it} for n, it in enumerate(sources)]
        notebook["cells"] = [*cells, ask, check]

    return shorten


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qlib.lab", "check", str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "QUEUE_URL": "http://127.0.0.1:1"},  # not for the students
    )


def test_the_table_of_a_folder(directory: Path) -> None:
    copy(directory, answered(RIGHT), FIRST)
    copy(directory, answered(WRONG), "00_wrong.ipynb")
    copy(directory, lambda _: None, "00_open.ipynb")
    (directory / "01_broken.ipynb").write_text("{")
    before = {path: path.read_bytes() for path in directory.iterdir()}
    done = checked(directory)
    rows = [line.split(maxsplit=4) for line in done.stdout.splitlines()]
    assert rows == [
        ["chapter", "right", "wrong", "open"],
        ["00_first_message", "1", "0", "0"],
        ["00_open", "0", "0", "1"],
        ["00_wrong", "0", "1", "0"],
        ["01_broken", "0", "0", "0", rows[4][-1]],
        ["all", "1", "1", "1"],
    ], done
    assert rows[4][-1].startswith("cannot be run: NotJSONError")
    assert done.returncode == 1
    assert "2 of 4: 00_open.ipynb …" in done.stderr and "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in directory.glob("*.ipynb")} == before


def test_the_exit_code_of_one_who_has_it_all(directory: Path) -> None:
    assert checked(directory).returncode == 2
    copy(directory, answered(RIGHT))
    done = checked(directory)
    assert (done.returncode, done.stdout.splitlines()[-1].split()) == (0, ["all", "1", "0", "0"])


def test_its_help_warns_that_students_code_is_run() -> None:
    command = [sys.executable, "-m", "qlib.lab", "check", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert "runs with your rights" in " ".join(done.stdout.split())


def unmarked(notebook: Notebook) -> None:
    for cell in notebook["cells"]:
        cell["metadata"].pop("tags", None)


def no_check(notebook: Notebook) -> None:
    exercise(notebook)[1]["metadata"].pop("tags")


def own_check(notebook: Notebook) -> None:
    exercise(notebook)[1]["source"] = "print('✓ it is right')"


@pytest.mark.parametrize(
    ("change", "remarks"),
    [
        (unmarked, ("0 of 1 exercises found",)),
        (no_check, ("an exercise has no check behind it", "0 of 1 exercises found")),
        (own_check, ("a check is not the chapter's own", "0 of 1 exercises found")),
        (
            lambda notebook: [short()(notebook), notebook["cells"].pop()],
            ("an exercise has no check behind it", "0 of 1 exercises found"),
        ),
    ],
)
def test_what_is_missing_is_said(
    directory: Path, change: Callable[[Notebook], object], remarks: tuple[str, ...]
) -> None:
    def only_the_exercise(notebook: Notebook) -> None:
        short()(notebook)
        change(notebook)

    result = judge(copy(directory, only_the_exercise))
    assert (result.remarks, result.counts.total(), result.is_right) == (remarks, 0, False)


@pytest.mark.parametrize(
    ("sources", "remark"),
    [
        (["import os; os.kill(os.getpid(), 9)"], "cannot be run: DeadKernelError"),
        (["while True: pass"] * 5, "cannot be run: TimeoutError: it takes longer than 4 seconds"),
    ],
)
def test_a_chapter_that_cannot_be_run_is_said(
    directory: Path, sources: list[str], remark: str
) -> None:
    result = judge(copy(directory, short(*sources)), cell_time=2, chapter_time=4)
    assert len(result.remarks) == 1 and result.remarks[0].startswith(remark), result


def test_an_answer_without_end_is_wrong_and_the_rest_is_run(directory: Path) -> None:
    def endless(notebook: Notebook) -> None:
        short()(notebook)
        ask, check = exercise(notebook)
        ask["source"] = "while True: pass"
        last = {**check, "id": "last", "source": "open('reached', 'w').close()"}
        notebook["cells"].append(last)

    result = judge(copy(directory, endless), cell_time=3)
    assert (dict(result.counts), result.remarks) == ({"wrong": 1}, ())
    assert (directory / "reached").exists()
