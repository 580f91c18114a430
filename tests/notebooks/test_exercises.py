"""No wrong answer of an exercise passes, and no right one fails, at whichever try."""

import copy
import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from qlib.lab.course.chapters import chapters, read
from qlib.lab.course.exercise import OPEN
from tests.notebooks.chapter import ROOT, Notebook, code, exercise, text
from tests.notebooks.kernel import Kernel, Ran, kernel

CHAPTERS = chapters()

each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def answers(path: Path) -> tuple[list[str], list[str]]:
    """Return the right and the wrong answers to a chapter's exercise."""
    module = importlib.import_module(f"tests.notebooks.answers.ch{path.stem[:2]}")
    return module.RIGHT, module.WRONG


def sequence(right: list[str], wrong: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield all of them, a wrong one first, and each right one after a wrong one, twice over."""
    for bad, good in itertools.zip_longest(wrong, right):
        yield from [(bad or wrong[0], False), (good or right[0], True)] * 2


class Exercise:
    """An exercise in a kernel that has run all that stands above it."""

    def __init__(self, notebook: Notebook, running: Kernel) -> None:
        self._running = running
        cells = code(notebook)
        asks, self._check, self._solution = exercise(notebook)
        for cell in cells[: cells.index(asks)]:
            ran = running.run(text(cell["source"]))
            assert ran.error is None or "raises-exception" in cell["metadata"].get("tags", ())
        self._asks = text(asks["source"])

    def open(self) -> Ran:
        assert self._running.run(self._asks).error is None
        return self._judged()

    def answered(self, answer: str) -> Ran:
        """Write the answer in the place of the last statement, and run both cells."""
        above = "".join(self._asks.splitlines(keepends=True)[:-1])
        ran = self._running.run(above + answer)
        return ran if ran.error else self._judged()

    def solution(self) -> Ran:
        return self._running.run(text(self._solution["source"]))

    def again(self) -> Ran:
        """Run the check alone."""
        return self._judged()

    def _judged(self) -> Ran:
        return self._running.run(text(self._check["source"]))


def complaints(notebook: Notebook, right: list[str], wrong: list[str]) -> list[str]:
    """Return what is wrong with an exercise, in words, after trying all of the answers."""
    with kernel() as running:
        asked = Exercise(notebook, running)
        found = [] if asked.open().text.startswith(OPEN) else ["an open exercise is not asked for"]
        for answer, good in sequence(right, wrong):
            ran = asked.answered(answer)
            if good and ran.error:
                found.append(f"a right one fails: {answer}: {ran.error}")
            elif good and (second := asked.again()).error:
                found.append(f"judged again, a right one fails: {answer}: {second.error}")
            elif not good and not ran.error:
                found.append(f"a wrong one passes: {answer}")
            elif not good and "wanted:" not in str(ran.error):
                found.append(f"not told what was wanted: {answer}: {ran.error}")
        solution = asked.solution()
        return found + ([f"the solution: {solution.error}"] if solution.error else [])


@each_chapter
def test_answers_are_judged_rightly(path: Path) -> None:
    right, wrong = answers(path)
    assert len(set(right)) >= 3
    assert len(set(wrong)) >= 4
    assert complaints(read(path), right, wrong) == []


def judging(body: str) -> str:
    return f"def judge(mailer): {body}\nlab.exercise(judge, mailer)"


def test_control_a_judge_that_is_too_kind_or_too_strict_is_noticed() -> None:
    notebook = read(CHAPTERS[0])
    right, wrong = answers(CHAPTERS[0])
    kind, strict = copy.deepcopy(notebook), copy.deepcopy(notebook)
    exercise(kind)[1]["source"] = judging("None")
    exercise(strict)[1]["source"] = judging("lab.claim('', 1, 2)")
    assert [it[:18] for it in complaints(kind, right[:1], wrong[:1])] == ["a wrong one passes"] * 2
    found = [it[:17] for it in complaints(strict, right[:1], wrong[:1])]
    assert found == ["a right one fails", "a right one fails", "the solution: ('R"]


def test_every_exercise_has_answers() -> None:
    listed = {path.stem for path in (ROOT / "tests" / "notebooks" / "answers").glob("ch*.py")}
    assert listed == {f"ch{path.stem[:2]}" for path in CHAPTERS}
