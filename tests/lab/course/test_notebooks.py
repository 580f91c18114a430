"""`python -m qlib.lab.course.notebooks` stores what a notebook shows, and only that."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

ROOT = Path(__file__).resolve().parents[3]


COMMAND = ("-m", "qlib.lab.course.notebooks")
# the same, in the environment as it is
BARE = (
    "-c",
    "import pathlib, sys; from qlib.lab.course.notebooks import execute; execute(pathlib.Path(sys.argv[1]))",
)


def run(
    path: Path, command: tuple[str, str] = COMMAND, **settings: str
) -> subprocess.CompletedProcess[str]:
    inherited = {name: it for name, it in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *command, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=inherited | settings,
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


@pytest.mark.parametrize(
    ("backend", "first", "pictures"),
    [
        ("Agg", "plt.figure(); plt.close()", [0, 1]),  # the first cell is the control
        ("TkAgg", "plt.figure(); plt.close()", [0, 1]),
        ("Agg", "%matplotlib pdf", [0, 0]),  # chosen by whoever runs it
    ],
)
def test_a_backend_for_scripts_leaves_the_pictures_in(
    directory: Path, backend: str, first: str, pictures: list[int]
) -> None:
    picture = "from qlib.lab.pictures.look import new_axes; new_axes(2).plot([1, 2]); None"
    first = f"import matplotlib.pyplot as plt\n{first}"
    path = notebook(directory / "n.ipynb", first, picture)
    done = run(path, BARE, MPLBACKEND=backend, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    found = [
        sum("image/png" in output.get("data", ()) for output in cell.outputs)
        for cell in nbformat.read(path, as_version=4).cells
    ]
    assert found == pictures


@pytest.mark.parametrize("command", [COMMAND, BARE])
def test_what_is_stored_is_the_same_whatever_the_user_has_set(
    directory: Path, command: tuple[str, str]
) -> None:
    def written(name: str, text: str) -> str:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    written("ipython/profile_default/startup/00.py", "import builtins; builtins.profile = True")
    settings = {
        "IPYTHONDIR": str(directory / "ipython"),
        "MATPLOTLIBRC": written("rc/matplotlibrc", "axes.facecolor: red"),
        "MPLBACKEND": "Agg",
        "PYTHONPATH": str(ROOT),
        "PYTHONSTARTUP": written("startup.py", "import builtins; builtins.startup = True"),
        "PYTHONWARNINGS": "once",
    }
    path = notebook(
        directory / "n.ipynb",
        "import builtins, matplotlib, sys",
        "print(hasattr(builtins, 'profile'), hasattr(builtins, 'startup'), sys.warnoptions)",
        "print(matplotlib.rcParams['axes.facecolor'])",
    )
    done = run(path, command, **settings)
    assert done.returncode == 0, done.stderr
    shown = [cell.outputs[0].text for cell in nbformat.read(path, as_version=4).cells[1:]]
    pinned = ["False False []\n", "white\n"]
    assert shown == (pinned if command is COMMAND else ["True True ['once']\n", "red\n"])


def test_a_kernel_of_that_name_elsewhere_is_not_taken(directory: Path) -> None:
    spec = directory / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["false"], "display_name": "other", "language": "python"}')
    path = notebook(directory / "n.ipynb", "1 + 1")
    assert run(path, JUPYTER_PATH=str(directory)).returncode == 0
    assert run(path, BARE, JUPYTER_PATH=str(directory)).returncode != 0  # the control
