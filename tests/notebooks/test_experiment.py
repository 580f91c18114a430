"""The page to copy for an experiment of one's own: it shows each tool, and what it stored."""

import json
import re

import pytest

from qlib.lab.stack import Stack
from tests.notebooks.chapter import LOCAL, ROOT, Notebook, code, prose, text
from tests.notebooks.strict import nbval

PATH = ROOT / "notebooks" / "your_own_experiment.ipynb"
CALLS = ("lab.up(", "lab.record(", "lab.live(", "lab.ladder(", "lab.check(", "qlib.lab.stress")
WAYS = ("lab.up(mine=True", "lab.up(url=")


@pytest.fixture(scope="module")
def notebook() -> Notebook:
    found: Notebook = json.loads(PATH.read_text())
    return found


def test_it_shows_what_it_stored_on_a_queue_of_its_own_and_on_another(notebook: Notebook) -> None:
    cells = f"{len(code(notebook))} passed"
    assert nbval(PATH) == cells
    with Stack() as stack:
        assert nbval(PATH, QUEUE_URL=stack.url, QUEUE_DSN=stack.dsn) == cells


def test_it_has_what_an_experiment_needs(notebook: Notebook) -> None:
    cells = code(notebook)
    sources = "\n".join(text(cell["source"]) for cell in cells)
    assert [sources.find(call) for call in CALLS] == sorted(sources.find(call) for call in CALLS)
    assert all(call in sources for call in CALLS)
    assert all(way in prose(notebook) for way in WAYS)
    assert sources.count("lab.claim(") >= 3
    assert len(notebook["cells"]) <= 20
    assert len(re.sub(r"<[^>]+>", " ", prose(notebook)).split()) <= 500
    assert all(len(text(cell["source"]).splitlines()) <= 12 for cell in cells)


def test_it_is_stored_as_it_ran(notebook: Notebook) -> None:
    cells = code(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 2
    assert len(outputs) >= 5 and not LOCAL.search(json.dumps(outputs))
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert PATH.stat().st_size <= 150_000
