"""`python -m qlib.lab.notebooks` stores what a notebook shows, and only that."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat import v4

ROOT = Path(__file__).resolve().parents[2]


def run(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qlib.lab.notebooks", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={name: it for name, it in os.environ.items() if name != "PYTHONPATH"},
    )


def notebook(path: Path, *sources: str, **metadata: Any) -> Path:
    cells = [v4.new_code_cell(source, metadata=metadata) for source in sources]
    nbformat.write(v4.new_notebook(cells=cells, metadata={"volatile": 1}), path)
    return path


def test_outputs_and_counts_are_stored(directory: Path) -> None:
    path = notebook(directory / "n.ipynb", "import qlib", "print('a'); print('b')", "1 + 1")
    assert run(path).returncode == 0
    stored = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in stored.cells] == [1, 2, 3]
    assert stored.cells[1].outputs[0].text == "a\nb\n"
    assert stored.cells[2].outputs[0].data["text/plain"] == "2"


def test_what_is_volatile_is_dropped(directory: Path) -> None:
    path = notebook(
        directory / "n.ipynb",
        "1 / 0",
        tags=["raises-exception"],
        jupyter={"source_hidden": True},
        collapsed=True,
    )
    assert run(path).returncode == 0
    stored = nbformat.read(path, as_version=4)
    assert sorted(stored.metadata) == ["kernelspec", "language_info"]
    assert stored.metadata.language_info == {"name": "python"}
    (cell,) = stored.cells
    assert sorted(cell.metadata) == ["jupyter", "tags"]
    assert cell.outputs[0].traceback == ["ZeroDivisionError: division by zero"]


def test_a_notebook_that_fails_is_left_as_it_was(directory: Path) -> None:
    path = notebook(directory / "n.ipynb", "1 + 1", "1 / 0")
    before = path.read_bytes()
    done = run(path)
    assert done.returncode == 1 and "division by zero" in done.stderr
    assert path.read_bytes() == before
