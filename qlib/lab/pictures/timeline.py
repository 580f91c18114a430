"""The picture of sessions that are stepped by hand."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from qlib.lab.pictures.look import FAINT, INK, WIDTH, colours_of, new_axes
from qlib.lab.sessions.session import Session
from qlib.lab.sessions.steps import Event

_HEIGHT = 0.3  # of a bar; the lanes are 1 apart
_EDGE = 0.35  # steps that a bar reaches beyond what is in it
_RIM = 0.7  # steps between the last one and the edge of the picture
_STEP = 0.72  # inches, so that the words of two steps that follow each other have room
_LANE = 0.95


def timeline(*sessions: Session, ax: Axes | None = None) -> None:
    """Draw what the sessions did, step by step: a lane each, from the first one down.

    A bar is a transaction. A mark is a statement, named above it, with what came back below; a
    square mark ends the transaction, a cross is a failure. A hatched stretch is a wait; an arrow
    leads to the one waited for, if it is in the picture. A step is a statement of any of them, or
    the moment when somebody asked for the result of one that had to wait. Without `ax` it makes a
    figure of pyplot's, which a notebook shows. Raises ValueError when nobody has done anything.
    """
    numbers = _numbers(sessions)
    if ax is None:
        width = max(WIDTH, 1.2 + _STEP * len(numbers))
        ax = new_axes(0.8 + _LANE * len(sessions), width)
    colours = colours_of([session.name for session in sessions])
    lanes = {session.name: lane for lane, session in enumerate(sessions)}
    for session in sessions:
        lane, colour = lanes[session.name], colours[session.name]
        _transactions(ax, session.events, numbers, lane, colour)
        for event in session.events:
            _wait(ax, event, numbers, lane, colour, lanes)
            _mark(ax, event, numbers, lane, colour)
    _frame(ax, lanes, len(numbers))


def _numbers(sessions: tuple[Session, ...]) -> dict[int | None, float]:
    """Return the steps of these sessions as 1, 2, 3 …, and as None the end of what has none yet."""
    events = [event for session in sessions for event in session.events]
    if not events:
        raise ValueError("nothing was done in these sessions yet")
    seen = {step for event in events for step in (event.started, event.ended) if step is not None}
    return {step: float(n) for n, step in enumerate(sorted(seen), 1)} | {None: len(seen) + _RIM}


def _transactions(
    ax: Axes, events: list[Event], numbers: dict[int | None, float], lane: int, colour: str
) -> None:
    first = None
    for event in events:
        first = event if first is None else first
        if event.idle or event is events[-1]:
            left = numbers[first.started] - _EDGE
            # one that is still open has no end yet
            right = numbers[event.ended if event.idle else None] + (_EDGE if event.idle else 0)
            ax.barh(lane, right - left, _HEIGHT, left, color=colour, alpha=0.35, lw=0)
            first = None


def _wait(
    ax: Axes,
    event: Event,
    numbers: dict[int | None, float],
    lane: int,
    colour: str,
    lanes: dict[str, int],
) -> None:
    if not event.waited_for:
        return
    left, right = numbers[event.started], numbers[event.ended]
    look: dict[str, Any] = {"color": "white", "edgecolor": colour, "hatch": "////", "lw": 0}
    ax.barh(lane, right - left, _HEIGHT, left, **look)
    for blocker in event.waited_for:
        if blocker in lanes:
            edge = _HEIGHT / 2 if lanes[blocker] < lane else -_HEIGHT / 2
            arrow = {"arrowstyle": "-|>", "color": INK, "lw": 1.2, "shrinkA": 5, "shrinkB": 0}
            tip, tail = (left, lanes[blocker] + edge), (left, lane)
            ax.annotate("", tip, tail, arrowprops=arrow, zorder=4)


def _mark(ax: Axes, event: Event, numbers: dict[int | None, float], lane: int, colour: str) -> None:
    start, end = numbers[event.started], numbers[event.ended]
    shape = "X" if event.failed else "s" if event.idle else "o"
    look: dict[str, Any] = {"fontsize": 9, "color": INK}
    above, below = lane - _HEIGHT / 2 - 0.06, lane + _HEIGHT / 2 + 0.06
    if event.waited_for:  # its name stands beside the arrow
        ax.plot(start, lane, "o", ms=5, color=colour, mec=INK, mew=0.8, zorder=5)
        ax.text(start + 0.07, above, event.what, ha="left", va="bottom", **look)
    else:
        ax.text(start, above, event.what, ha="center", va="bottom", **look)
    if event.ended is not None:
        ax.plot(end, lane, shape, ms=7, color=colour, mec=INK, mew=0.8, zorder=5)
        ax.text(end, below, event.outcome, ha="center", va="top", **look)


def _frame(ax: Axes, lanes: dict[str, int], count: int) -> None:
    ax.set_xlim(1 - _RIM, count - 1 + _RIM)
    ax.set_ylim(len(lanes) - 0.4, -0.55)
    ax.set_xticks(range(1, count))
    ax.set_xlabel("step")
    ax.set_yticks(list(lanes.values()), list(lanes), fontsize=11)
    ax.tick_params(axis="y", length=0)
    for lane in lanes.values():
        ax.axhline(lane, color=FAINT, lw=1, zorder=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
