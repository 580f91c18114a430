"""What the lab offers, and what a claim does that does not hold."""

import pytest

from qlib import lab


def test_what_the_lab_offers() -> None:
    assert lab.__all__ == [
        "History",
        "SessionError",
        "Stack",
        "StackError",
        "Verdict",
        "check",
        "claim",
        "crash",
        "curve",
        "interleave",
        "ladder",
        "live",
        "progress",
        "record",
        "restart",
        "session",
        "source",
        "sql",
        "strategy",
        "strip",
        "timeline",
        "up",
    ]
    assert all(getattr(lab, name).__doc__ for name in lab.__all__)


def test_a_claim_that_holds_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    lab.claim("one and one is two", 1 + 1 == 2)
    assert capsys.readouterr().out == "✓ one and one is two\n"


def test_a_claim_that_does_not_hold_is_raised(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match="one and one is three"):
        lab.claim("one and one is three", 1 + 1 == 3)
    assert capsys.readouterr().out == ""
