"""Every chapter shows what it says: each is run again and compared with what it has stored."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from qlib.lab.course.chapters import chapters, read
from qlib.lab.course.notebooks import readme_pictures
from tests.notebooks.chapter import ROOT, Notebook, code, exercise, problems, text
from tests.notebooks.strict import SANITIZE, nbval

CHAPTERS = chapters()

each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def test_there_are_chapters() -> None:
    numbers = [path.stem[:2] for path in CHAPTERS]
    assert numbers[:7] == [f"{number:02}" for number in range(7)]
    assert len(set(numbers)) == len(numbers)


def passed(path: Path) -> str:
    cells = len(code(read(path)))
    assert cells > 10
    return f"{cells} passed"


@each_chapter
def test_a_chapter_shows_what_it_stored(path: Path) -> None:
    assert nbval(path) == passed(path)


def test_a_changed_offset_is_noticed(directory: Path) -> None:
    notebook = read(CHAPTERS[0])
    notebook["cells"] = notebook["cells"][:6]
    stored = code(notebook)[2]["outputs"][0]["data"]["text/plain"]
    assert stored == ["[1, 2, 3]"]
    stored[0] = "[1, 2, 4]"
    changed = directory / "changed.ipynb"
    changed.write_text(json.dumps(notebook))
    assert nbval(changed) == "1 failed, 2 passed"


@each_chapter
def test_a_chapter_is_well_made(path: Path) -> None:
    assert problems(read(path)) == []
    assert path.stat().st_size <= 150_000


def planted(change: Callable[[Notebook], object]) -> list[str]:
    notebook = copy.deepcopy(read(CHAPTERS[0]))
    change(notebook)
    return problems(notebook)


def output(**content: object) -> Callable[[Notebook], object]:
    return lambda notebook: code(notebook)[1]["outputs"].append(content)


def without(words: str) -> Callable[[Notebook], object]:
    def take_out(notebook: Notebook) -> None:
        for cell in notebook["cells"]:
            cell["source"] = [line.replace(words, "") for line in cell["source"]]

    return take_out


def part(at: int, old: str, new: str) -> Callable[[Notebook], object]:
    """Return what changes the words of the cell that asks, or judges, or solves."""

    def change(notebook: Notebook) -> None:
        cell = exercise(notebook)[at]
        cell["source"] = text(cell["source"]).replace(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda n: code(n)[3].update(execution_count=None), "execution counts are [1, 2, 3, None"),
        (output(output_type="error"), "cell 2 fails"),
        (output(output_type="stream", name="stderr", text="oh"), "cell 2 writes to stderr"),
        (output(output_type="stream", text=f"{ROOT}/x"), "cell 2 shows what is of one machine"),
        (output(output_type="display_data", data={"text/plain": "at 127.0.0.1"}), "cell 2 shows"),
        (lambda n: code(n)[0].update(source=["import qlib"]), "the first cell is not the setup"),
        (without("**Predict.**"), "**Predict.** is missing"),
        (without("## Recap"), "## Recap is missing"),
        (lambda n: n["cells"].insert(0, n["cells"].pop()), "the order is not"),
        (lambda n: code(n)[0].update(metadata={}), "cell 1 is compared, and says which queue"),
        (
            lambda n: code(n)[1].update(source="lab.up(private=True)"),
            "cell 2 is compared, and says",
        ),
        (lambda n: code(n)[1].update(source='lab.up(fresh="x")'), "cell 2 is compared, and says"),
        (lambda n: code(n)[1].update(source="lab.claim_ratio('', f)"), "cell 2 is compared, and c"),
        (lambda n: [c.update(metadata={}) for c in code(n)], "no exercise of three cells"),
        (part(0, "mailer = ...", "mailer = 1"), "does not end with what is asked for"),
        (part(1, "def judge(", "def check("), "no check below the exercise"),
        (lambda n: exercise(n)[1].update(metadata={}), "no check below the exercise"),
        (lambda n: exercise(n)[2].update(metadata={}), "the solution is not folded"),
        (part(2, "# A solution", "# start=2"), "the first line of the solution"),
        (part(1, "lab.exercise(judge", "judge("), "the exercise is not judged"),
        (part(2, "lab.exercise(judge", "judge("), "the exercise is not judged"),
        (lambda n: code(n)[1].update(metadata=exercise(n)[2]["metadata"]), "not one folded cell"),
        (without("lab.source("), "no lab.source("),
        (without("<details>"), "0 closing questions"),
        (lambda n: n["cells"].extend(n["cells"][:2]), "43 cells"),
        (lambda n: n["cells"][0].update(source=["word " * 1300]), "words"),
        (lambda n: code(n)[0].update(source=["\n"] * 13), "13 lines in a cell"),
        (lambda n: [c.update(outputs=[]) for c in code(n)], "0 pictures"),
    ],
)
def test_a_badly_made_chapter_is_noticed(
    change: Callable[[Notebook], object], problem: str
) -> None:
    assert [found for found in planted(change) if problem in found]


def test_all_that_is_to_be_sanitised_is() -> None:
    from nbval.plugin import get_sanitize_patterns

    written = SANITIZE.read_text()
    pairs = get_sanitize_patterns(written)
    assert len(pairs) == written.count("regex:") == written.count("replace:")
    assert 1 <= len(pairs) < 10
    assert all(re.fullmatch(r"\w+", replacement) for _, replacement in pairs)


def test_the_readme_shows_pictures_of_the_chapters_as_they_are() -> None:
    shown = re.findall(r"\(notebooks/images/(\w+)\.png\)", (ROOT / "README.md").read_text())
    assert len(shown) >= 2
    assert sorted(shown) == sorted(path.stem for path in (ROOT / "notebooks/images").iterdir())
    for name in shown:
        notebook = nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)
        image = (ROOT / f"notebooks/images/{name}.png").read_bytes()
        assert readme_pictures(notebook) == [image]
