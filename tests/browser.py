"""A notebook in a real browser, as its reader sees it: Debian's chromium, driven by Playwright."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.notebooks.chapter import code, text

PATIENCE = 120_000  # milliseconds
# It asks nobody on the network about anything.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
QUIET += ["--no-first-run", "--disable-quic", "--disable-gpu"]
FAILED = '.jp-OutputArea [data-mime-type="application/vnd.jupyter.error"]'
STDERR = '.jp-OutputArea [data-mime-type="application/vnd.jupyter.stderr"]'


@dataclass(frozen=True)
class Seen:
    """What a notebook shows when all of it was run.

    `last` stands at the last code cell: its number, or nothing when it was not run; `ladders` says
    for each cell that is not folded and draws one whether it is to be seen; `complaints` is what came as an error or
    on the standard error.
    """

    last: str
    ladders: list[bool]
    complaints: list[str]


def sound(notebook: Path) -> Seen:
    """Return what is to be seen of a notebook when all is well."""
    cells = code(json.loads(notebook.read_text()))
    open_ones = [cell for cell in cells if not cell["metadata"].get("jupyter")]
    ladders = [True for cell in open_ones if "lab.ladder(" in text(cell["source"])]
    assert len(cells) > 10 and ladders
    return Seen(str(len(cells)), ladders, [])


def chromium() -> str | None:
    """Return the browser's path: what QUEUE_TEST_CHROMIUM says, else a chromium on the PATH."""
    return os.environ.get("QUEUE_TEST_CHROMIUM") or shutil.which("chromium")


@contextmanager
def browser() -> Iterator[Page]:
    """Open a page in a browser without a screen."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        try:
            page = opened.new_page(viewport={"width": 1200, "height": 1000})
            page.set_default_timeout(PATIENCE)
            yield page
        finally:
            opened.close()


def run_all(page: Page, url: str) -> Seen:
    """Open a notebook in JupyterLab, clear it, run all of it, and tell what is to be seen then."""
    page.goto(url)
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    cells.first.wait_for()
    page.get_by_text("| Idle").wait_for()
    _choose(page, "Edit", "Clear Outputs of All Cells")
    assert page.locator(".jp-OutputArea-output").count() == 0
    _choose(page, "Kernel", "Restart Kernel and Run All Cells…")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.wait_for_function(_OVER)
    drawing = cells.filter(has_text="lab.ladder(")
    return Seen(
        (cells.locator(".jp-InputPrompt").last.text_content() or "").strip("[]: "),
        [_shows_a_picture(cell) for cell in drawing.all()],
        page.locator(f"{FAILED}, {STDERR}").all_text_contents(),
    )


def save(page: Page) -> None:
    """Save the notebook that is open."""
    page.keyboard.press("Control+s")


# No cell is on its way, and the first one has been.
_OVER = """() => {
    const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")].map(p => p.textContent);
    return prompts.length && /[0-9]/.test(prompts[0]) && !prompts.some(p => p.includes("*"));
}"""


def _choose(page: Page, menu: str, item: str) -> None:
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=item, exact=True).click()


def _shows_a_picture(cell: Any) -> bool:
    cell.scroll_into_view_if_needed()
    pictures = cell.locator("img").all()
    return bool(pictures) and all(
        picture.is_visible() and picture.evaluate("image => image.naturalWidth") > 300
        for picture in pictures
    )
