"""What `make lab` opens is a page that works: the first chapter, run in a real browser."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from qlib.lab.course.copies import lay
from tests.browser import browser, chromium, run_all, save, sound
from tests.notebooks.chapter import ROOT, code
from tests.reaped import short_directory
from tests.waiting import until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="there is no chromium on the PATH"),
]

CHAPTER = ROOT / "notebooks" / "00_first_message.ipynb"


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[Path, str]]:
    """A repository of these files, and the address that `make lab` prints in it."""
    with short_directory() as path:
        copy = Path(path)
        for part in ("init", "notebooks", "qlib", "server"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / ".gitignore", copy)
        (copy / "notebooks" / "broken.ipynb").write_text(json.dumps(broken()))
        git(copy, "init", "-q")
        git(copy, "add", "--all")
        git(copy, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "-m", "all")
        with (copy / ".git" / "said").open("w") as said:
            lab = subprocess.Popen(
                [sys.executable, "-m", "qlib.lab", "--no-browser"],
                cwd=copy,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(copy), "HOME": str(copy / ".git")},
            )
        try:
            yield copy, until(lambda: printed(copy / ".git" / "said", lab), 120)
        finally:
            lab.send_signal(signal.SIGTERM)
            lab.wait(120)


@pytest.fixture(scope="module")
def address(opened: tuple[Path, str]) -> str:
    return opened[1]


def git(directory: Path, *words: str) -> str:
    command = ["git", "-c", "safe.directory=*", *words]
    settings = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        command, cwd=directory, env=settings, capture_output=True, text=True, check=True
    )
    return done.stdout


def printed(said: Path, lab: subprocess.Popen[bytes]) -> str:
    assert lab.poll() is None, said.read_text()
    return "".join(re.findall(r"^JupyterLab: +(\S+)$", said.read_text(), re.M))


def broken() -> dict[str, object]:
    """A notebook whose second cell fails, so that the ladder of the third is never drawn."""
    notebook = json.loads(CHAPTER.read_text())
    cells = code(notebook)[:3]
    cells[1]["source"], cells[2]["source"] = "1 / 0", 'lab.ladder("orders")'
    return {**notebook, "cells": cells}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


def test_the_first_chapter_runs_in_a_browser(page: Page, opened: tuple[Path, str]) -> None:
    directory, address = opened
    page.goto(address)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    assert page.locator(".jp-OutputArea-output").count() == 0, "it gives its answers away"
    assert run_all(page, address) == sound(CHAPTER)
    assert page.locator(".Toastify__toast").count() == 0
    save(page)
    saved = directory / "my-notebooks" / CHAPTER.name
    until(lambda: was_run(saved), 60)
    assert git(directory, "status", "--porcelain") == ""
    assert lay(saved.parent, directory / "notebooks") == [], "it is known that nobody wrote in it"
    (directory / "notebooks" / CHAPTER.name).write_bytes(saved.read_bytes())  # the control
    assert git(directory, "status", "--porcelain") == f" M notebooks/{CHAPTER.name}\n"
    git(directory, "checkout", "-q", "--", "notebooks")


def was_run(path: Path) -> bool:
    """Whether a notebook was saved with its first cell run; it may be half written just now."""
    try:
        return bool(code(json.loads(path.read_text()))[0]["execution_count"])
    except ValueError:
        return False


def test_control_a_failing_cell_is_seen(page: Page, address: str) -> None:
    # reset: JupyterLab would open the other one again too
    seen = run_all(page, address.replace(CHAPTER.name, "broken.ipynb") + "&reset")
    assert (seen.last, seen.ladders) == ("", [False])
    assert ["ZeroDivisionError" in complaint for complaint in seen.complaints] == [True]
