"""Other programs that people open notebooks with take the chapters as they are."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from qlib.lab.course.chapters import NOTEBOOKS, Notebook, chapters, read, source
from qlib.lab.course.notebooks import kernel_environment
from qlib.lab.stack.guarded import free_port
from tests.waiting import until

FIRST = chapters()[0]
PATIENCE = 300.0


@pytest.fixture
def environment(directory: Path) -> dict[str, str]:
    """An environment without a queue, and without the user's settings."""
    kept = kernel_environment(directory / "ipython").items()
    return {name: it for name, it in kept if not name.startswith("QUEUE_")}


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize(("form", "sign"), [("html", "<h1"), ("slides", "reveal")])
def test_nbconvert_makes_pages_and_slides(
    directory: Path, environment: dict[str, str], form: str, sign: str
) -> None:
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    options = ["--to", form, "--output-dir", str(directory), *map(str, paths)]
    run(environment, "jupyter", "nbconvert", *options)
    made = list(directory.glob("*.html"))
    assert len(made) == len(paths) >= 7
    assert all(sign in page.read_text() for page in made)


def test_papermill_runs_a_chapter(directory: Path, environment: dict[str, str]) -> None:
    out = directory / "out.ipynb"
    run(environment, "papermill", str(FIRST), str(out), "--cwd", str(NOTEBOOKS))
    cells = [cell for cell in read(out)["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 10 and all(cell["execution_count"] for cell in cells)


def test_jupytext_there_and_back(directory: Path, environment: dict[str, str]) -> None:
    before = {path.name: written(read(path)) for path in NOTEBOOKS.glob("*.ipynb")}
    assert len(before) >= 7
    copies = [directory / name for name in before]
    for path in copies:
        shutil.copy(NOTEBOOKS / path.name, path)
    run(environment, "jupytext", "--to", "py:percent", *map(str, copies))
    for path in copies:
        path.unlink()
    run(environment, "jupytext", "--to", "ipynb", *(str(it.with_suffix(".py")) for it in copies))
    assert {path.name: written(read(path)) for path in copies} == before


def written(notebook: Notebook) -> list[Any]:
    """Return what people write in a notebook: its cells, their tags, and what is folded."""
    return [[cell["cell_type"], source(cell), cell["metadata"]] for cell in notebook["cells"]]


@pytest.fixture
def voila(directory: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of a voila that shows the notebooks of a directory."""
    port = free_port()
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "voila",
                "--no-browser",
                "--show_tracebacks=True",
                f"--port={port}",
                str(directory),
            ],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        until(lambda: f":{port}" in (directory / "log").read_text() or process.poll(), 120)
        assert process.poll() is None, (directory / "log").read_text()
        yield f"http://127.0.0.1:{port}/voila/render"
    finally:
        process.terminate()
        process.wait(60)


def test_voila_shows_a_chapter(directory: Path, voila: str) -> None:
    (directory / FIRST.name).write_bytes(FIRST.read_bytes())
    failing = read(FIRST)
    failing["cells"][-1] = {**failing["cells"][1], "cell_type": "code", "source": "1 / 0"}
    failing["cells"][-1].update(outputs=[], execution_count=None, metadata={}, id="fails")
    (directory / "failing.ipynb").write_text(json.dumps(failing))
    pages = {name: shown(f"{voila}/{name}") for name in (FIRST.name, "failing.ipynb")}
    assert ["ZeroDivisionError" in page for page in pages.values()] == [False, True]
    claims = json.dumps([cell.get("outputs") for cell in read(FIRST)["cells"]], ensure_ascii=False)
    assert pages[FIRST.name].count("✓") >= claims.count("✓") >= 2
    assert "Traceback" not in pages[FIRST.name]


def shown(url: str) -> str:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, timeout=PATIENCE)
    assert answer.status_code == 200
    return answer.content.decode()
