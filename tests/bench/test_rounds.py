"""Rounds: what is counted, in which order, and that noise which meets all alike makes no difference."""

from collections.abc import Callable
from functools import partial
from statistics import median

import pytest

from tests.bench.rounds import (
    P50,
    P99,
    RATE,
    Contender,
    Figures,
    Result,
    clocked,
    interleave,
    percentiles,
)

# How slow the machine is from one round to the next; the first is the warm-up.
NOISE = (50.0, 1.0, 3.0, 10.0, 1.0, 2.0)
ROUNDS = len(NOISE) - 1


class Track:
    """A clock that only moves when somebody works, and a record of who did what."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[str] = []

    def clock(self) -> float:
        return self.now

    def contender(self, name: str, messages: int, seconds: float) -> Contender:
        """One who takes so long for a round in quiet, and as long again to make ready."""

        def work() -> int:
            self.now += seconds * NOISE[self.done.count(name)]
            self.done.append(name)
            return messages

        def before() -> None:
            self.now += seconds

        return Contender(name, work, before)


def race(*contenders: tuple[str, int, float]) -> tuple[list[Result], list[str]]:
    track = Track()
    entered = [track.contender(*contender) for contender in contenders]
    return interleave("part", "case", entered, ROUNDS, clock=track.clock), track.done


def test_rates_are_messages_over_seconds_without_the_warm_up_and_what_comes_before() -> None:
    (only,), done = race(("a", 100, 0.5))
    assert only.rounds == tuple(200 / noise for noise in NOISE[1:])
    assert (only.median, only.ratio, only.unit, only.baseline) == (100, 1, RATE, "a")
    assert len(done) == 1 + ROUNDS


def test_a_ratio_is_taken_within_a_round() -> None:
    (one, other), _ = race(("a", 100, 0.5), ("b", 100, 0.25))
    assert (one.ratio, other.ratio, other.baseline) == (1, 2, "a")


def test_noise_that_meets_one_of_them_alone_shows_in_the_ratio() -> None:
    """The control of the test above: there, all rounds agree because the noise is the same."""
    track = Track()
    noisy = track.contender("a", 100, 1.0)

    def steady() -> int:
        track.now += 1.0
        return 100

    contenders = [noisy, Contender("b", steady)]
    results = interleave("part", "case", contenders, ROUNDS, clock=track.clock)
    assert results[1].ratio == median(NOISE[1:]) != 1


def test_everybody_is_first_in_turn() -> None:
    _, done = race(*((name, 1, 1.0) for name in "abc"))
    rounds = ["".join(done[first : first + 3]) for first in range(0, len(done), 3)]
    assert rounds == ["cab", "abc", "bca", "cab", "abc", "bca"]


def test_figures_that_a_contender_took_itself() -> None:
    def measuring(figures: Figures) -> Callable[[], Figures]:
        return lambda: figures

    contenders = [
        Contender("a", measuring({RATE: 10.0})),
        Contender("b", measuring({RATE: 5.0, "ms p50": 7.0})),
    ]
    results = interleave("part", "case", contenders, 3)
    assert [(r.contender, r.unit, r.median, r.ratio) for r in results] == [
        ("a", RATE, 10, 1),
        ("b", RATE, 5, 0.5),
        ("b", "ms p50", 7, None),
    ]


def test_nothing_is_compared_with_zero() -> None:
    contenders = [Contender("a", lambda: {"MB": 0.0}), Contender("b", lambda: {"MB": 1.0})]
    assert [r.ratio for r in interleave("part", "case", contenders, 2)] == [None, None]


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(AssertionError, match="two contenders of one name"):
        race(("a", 1, 1.0), ("a", 1, 1.0))


def test_every_call_is_made_and_clocked() -> None:
    made: list[int] = []
    figures = clocked((partial(made.append, number) for number in range(3)), 10)
    assert made == [0, 1, 2]
    assert figures.keys() == {RATE, P50, P99} and min(figures.values()) > 0


@pytest.mark.parametrize(
    ("seconds", "p50", "p99"),
    [
        ([0.003], 3, 3),
        ([n / 1e3 for n in range(100, 0, -1)], 51, 100),
        ([0.001] * 99 + [9], 1, 9e3),
    ],
)
def test_percentiles_are_in_milliseconds(seconds: list[float], p50: float, p99: float) -> None:
    assert percentiles(seconds) == pytest.approx({"ms p50": p50, "ms p99": p99})
