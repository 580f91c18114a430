"""What a chapter claims, checked where it claims it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

_CLEAR = (
    3  # rounds that one side leads by: by chance alone once in 65 (Wald's test of 0.8 against 0.2)
)
_REVERSED = 5  # once in 1,025: a busy machine is to make nothing red
_ROUNDS = 15
_PATIENCE = 4.0  # seconds; a round that has begun is ended


class Refuted(AssertionError):
    """A claim that does not hold."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows in red: the claim, and not the way through our functions."""
        return [f"✗ {self}"]


def claim(words: str, got: object, want: object = True) -> None:
    """Print the claim with a tick when it holds.

    It holds when what was got equals what was wanted; without `want`, when it is true. Raises
    AssertionError if not, with the claim, and with both when there are two.
    """
    if want is True and not got:
        raise Refuted(words)
    if want is not True and got != want:
        raise Refuted(f"{words}\n  found:  {got!r}\n  wanted: {want!r}")
    print(f"✓ {words}")


def claim_ratio(words: str, measure: Callable[[], float], at_least: float = 2.0) -> None:
    """Claim that a ratio of times is at least so much, as far as this machine can tell.

    `measure` runs both once, one right after the other, and returns the ratio. It is called until
    the answer is clear: until three more rounds came to `at_least` than stayed below; for 15 rounds
    or about 4 seconds. Prints the claim with a tick, or that it is too noisy to tell, which is no
    failure. Raises AssertionError when it is the other way round: five more rounds below 1 than
    not. What it prints differs from run to run: the cell needs the tag `nbval-ignore-output`.
    """
    ratios: list[float] = []
    deadline = time.monotonic() + _PATIENCE
    while len(ratios) < _ROUNDS and (not ratios or time.monotonic() < deadline):
        ratios.append(measure())
        if _lead(ratios, at_least) >= _CLEAR:
            return print(f"✓ {words} (here {median(ratios):.1f} times)")
        if _lead(ratios, 1) <= -_REVERSED:
            raise Refuted(f"{words}\n  found:  {median(ratios):.2f} times")
    print(f"too noisy to tell here: {words} (from {min(ratios):.1f} to {max(ratios):.1f} times)")


def _lead(ratios: list[float], least: float) -> int:
    reached = sum(ratio >= least for ratio in ratios)
    return 2 * reached - len(ratios)
