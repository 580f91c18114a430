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

from tests.browser import browser, chromium, run_all, sound
from tests.notebooks.chapter import ROOT, code
from tests.reaped import short_directory
from tests.waiting import until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="there is no chromium on the PATH"),
]

CHAPTER = ROOT / "notebooks" / "00_first_message.ipynb"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address that `make lab` prints, of a copy: JupyterLab saves what is run in it."""
    with short_directory() as path:
        copy = Path(path)
        for part in ("init", "notebooks", "qlib", "server"):
            shutil.copytree(ROOT / part, copy / part)
        (copy / "notebooks" / "broken.ipynb").write_text(json.dumps(broken()))
        with (copy / "said").open("w") as said:
            lab = subprocess.Popen(
                [sys.executable, "-m", "qlib.lab"],
                cwd=copy,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(copy), "HOME": path},
            )
        try:
            yield until(lambda: printed(copy / "said", lab), 120)
        finally:
            lab.send_signal(signal.SIGTERM)
            lab.wait(120)


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


def test_the_first_chapter_runs_in_a_browser(page: Page, address: str) -> None:
    assert run_all(page, address) == sound(CHAPTER)


def test_control_a_failing_cell_is_seen(page: Page, address: str) -> None:
    # reset: JupyterLab would open the other one again too
    seen = run_all(page, address.replace(CHAPTER.name, "broken.ipynb") + "&reset")
    assert (seen.last, seen.ladders) == ("", [False])
    assert ["ZeroDivisionError" in complaint for complaint in seen.complaints] == [True]
