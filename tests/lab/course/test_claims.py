"""What a claim does that holds, or does not; and one about times, which the machine may blur."""

from collections.abc import Iterable

import pytest
from IPython.core.interactiveshell import InteractiveShell

from qlib import lab
from qlib.lab.course import claims


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


@pytest.mark.parametrize("values", [(1 + 1 == 2,), ([1],), (2, 2), (0, 0), (None, None), ([], [])])
def test_a_claim_that_holds_is_printed(
    values: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    lab.claim("so it is", *values)
    assert told(capsys) == "✓ so it is\n"


@pytest.mark.parametrize("values", [(1 + 1 == 3,), ([],), (None,), (2, 3), (0, 1), ([1], [])])
def test_a_claim_that_does_not_hold_is_raised(
    values: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError, match="so it is"):
        lab.claim("so it is", *values)
    assert told(capsys) == ""


def test_a_wrong_value_is_told_with_the_one_that_was_wanted() -> None:
    with pytest.raises(AssertionError) as error:
        lab.claim("the mailer begins with 3", [4], [3])
    assert str(error.value).splitlines() == [
        "the mailer begins with 3",
        "  found:  [4]",
        "  wanted: [3]",
    ]


def ratio(ratios: Iterable[float], at_least: float = 2.0) -> int:
    """Claim it of these; return how many of them were asked for."""
    left = list(ratios)
    asked = len(left)
    lab.claim_ratio("twice as fast", lambda: left.pop(0), at_least)
    return asked - len(left)


def test_a_clear_ratio_is_told_soon(capsys: pytest.CaptureFixture[str]) -> None:
    assert ratio([3.0] * 99) == 3
    assert told(capsys) == "✓ twice as fast (here 3.0 times)\n"


def test_a_blurred_ratio_is_measured_until_it_is_clear(capsys: pytest.CaptureFixture[str]) -> None:
    assert ratio([3.0, 0.5, 3.0, 1.5, 3.0, 3.0, 3.0, *[3.0] * 9]) == 7
    assert told(capsys).startswith("✓")


@pytest.mark.parametrize("ratios", [[3.0, 1.0], [1.5], [1.9, 2.1], [0.5, 1.5]])
def test_what_is_too_noisy_is_said_and_is_no_failure(
    ratios: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ratio(ratios * 15) == 15
    least, most = min(ratios), max(ratios)
    expected = f"too noisy to tell here: twice as fast (from {least:.1f} to {most:.1f} times)\n"
    assert told(capsys) == expected


def test_slow_rounds_come_to_an_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(claims, "_PATIENCE", 0)
    assert ratio([3.0] * 9) == 1
    assert told(capsys).startswith("too noisy")


def test_control_the_other_way_round_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match=r"twice as fast\n  found:  0.50 times"):
        ratio([0.5] * 15)
    assert told(capsys) == ""


def test_a_notebook_shows_the_claim_and_not_the_way_to_it() -> None:
    shell = InteractiveShell()
    with pytest.raises(AssertionError) as error:
        lab.claim("it is two", 1, 2)
    shown = shell.InteractiveTB.structured_traceback
    assert "claims.py" in "\n".join(
        shown(error.type, error.value, error.tb)
    )  # else the test tells nothing
    assert error.value._render_traceback_() == ["✗ it is two\n  found:  1\n  wanted: 2"]  # type: ignore[attr-defined]
