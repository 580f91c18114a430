"""An exercise that is open is asked for kindly; an answer is judged as often as it is given."""

from collections.abc import Callable

import pytest

from qlib import lab


def judge(start: int) -> None:
    lab.claim("it is two", start, 2)


def open_answer(offset: int) -> None: ...


def open_and_described(offset: int) -> None:
    """Say what it is to do."""
    ...


@pytest.mark.parametrize("answer", [..., open_answer, open_and_described])
def test_an_open_exercise_is_no_failure(answer: object, capsys: pytest.CaptureFixture[str]) -> None:
    lab.exercise(judge, answer)
    said = "Not answered yet: start. Write yours into the cell above, and run both.\n"
    assert capsys.readouterr().out == said


def test_the_answers_that_are_missing_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    lab.exercise(lambda a, b, c: 1 / 0, ..., 2, ...)
    assert capsys.readouterr().out.startswith("Not answered yet: a and c.")


def test_an_answer_is_judged_again_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with pytest.raises(AssertionError, match="found:  1\n  wanted: 2"):
            lab.exercise(judge, 1)
        lab.exercise(judge, 2)
    assert capsys.readouterr().out == "✓ it is two\n" * 2


def constant(offset: int) -> int:
    return 1000


@pytest.mark.parametrize(
    "answer",
    [lambda offset: offset, lambda offset: offset + 1, lambda offset: 7, constant, print, None, 0],
)
def test_control_an_answer_is_not_taken_for_an_open_one(answer: Callable[[int], object]) -> None:
    judged: list[object] = []
    lab.exercise(lambda given: judged.append(given), answer)
    assert judged == [answer]


def test_an_answer_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        lab.exercise(lambda a, b: None, 1)
