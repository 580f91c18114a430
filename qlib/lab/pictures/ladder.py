"""The picture of how a topic grows and its subscribers climb after it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

from qlib.lab.database.query import sql
from qlib.lab.pictures.look import INK, colours_of, label_ends, new_axes, open_frame, titled

HEIGHT = 3.6  # inches

# Words below the axis, in points.
_LETTER = 4.8  # the width of one
_LINE = 10.5  # the height of a line
_LONGEST = 16  # letters of a name
_MARKED = 100  # events: with more, their marks would run into each other
_APART = 2.5  # points between lines that would otherwise hide each other

# The head is the one without a name, which no subscriber can be.
_EVENTS = """
select '' as who, 'publish' as cause, max(m."offset") as "offset", m.published_at as at
from queue.messages m where m.topic = %s group by m.published_at
union all
select '', 'create', 0, t.created_at from queue.topics t where t.topic = %s
union all
select s.subscriber, p.cause, p."offset", p.moved_at
from queue.subscribers s join queue.position p using (subscriber_id) where s.topic = %s
order by at
"""


def ladder(topic: str, *, by: str = "step", ax: Axes | None = None) -> None:
    """Draw offset against step: the topic's head, and each subscriber's climb after it.

    A step is a publish or a move of a subscriber, in the order in which they happened; by "time",
    the axis is seconds since the topic was made. The shade between a subscriber and the head is
    its lag; a filled mark is a start or an ack, a hollow one a seek or a reset. It draws what the
    tables hold at this moment, and of a subscriber's older moves those that are kept. Without `ax`
    it makes a figure of pyplot's, which a notebook shows. Raises LookupError when there is no such
    topic, and whatever `sql` raises.
    """
    events = sql(_EVENTS, topic, topic, topic)
    if events.empty:
        raise LookupError(f"there is no topic {topic!r}")
    at = pd.to_datetime(events["at"], utc=True)
    events["x"] = (at - at[0]).dt.total_seconds() if by == "time" else at.rank(method="dense") - 1
    ax = ax or new_axes(HEIGHT)
    colours = colours_of(events["who"].unique().tolist())
    positions = _positions(events)
    for level, (who, colour) in enumerate(colours.items()):
        down = ax.transData + ScaledTranslation(0, -_APART * level / 72, ax.figure.dpi_scale_trans)
        _climb(ax, positions, who, colour, down)
        _marks(ax, events, who, colour, down)
    _frame(ax, positions)
    _title(ax, topic, events.loc[events["cause"] == "reset", "x"].unique())
    _steps(ax, events, by)
    _labels(ax, positions, colours)


def _positions(events: pd.DataFrame) -> pd.DataFrame:
    """Return who stood where after each step: a row a step, a column for each of them."""
    table = events.pivot_table(index="x", columns="who", values="offset", aggfunc="last")
    table = table.astype(float).ffill()
    half_a_step = table.index[-1] / len(table) / 2 or 1.0  # so that the last one is seen
    table.loc[table.index[-1] + half_a_step] = table.iloc[-1]
    return table


def _climb(ax: Axes, positions: pd.DataFrame, who: str, colour: str, down: Transform) -> None:
    own, x = positions[who], positions.index
    ax.fill_between(x, own, positions[""], step="post", color=colour, alpha=0.1, lw=0)
    width, name = (2.2, who) if who else (1.6, "head")
    ax.step(x, own, where="post", color=colour, lw=width, label=name, transform=down)


def _marks(ax: Axes, events: pd.DataFrame, who: str, colour: str, down: Transform) -> None:
    jumps = events["cause"].isin(["seek", "reset"])
    small = (events["cause"] != "create") & ~jumps & (len(events) <= _MARKED)
    for chosen, size, fill, width in ((small, 5, colour, 1), (jumps, 7, "white", 2)):
        own = events[chosen & (events["who"] == who)]
        look: dict[str, Any] = {
            "marker": "o",
            "ms": size,
            "mfc": fill,
            "mew": width,
            "color": colour,
            "ls": "",
        }
        ax.plot(own["x"], own["offset"], transform=down, zorder=3, **look)


def _frame(ax: Axes, positions: pd.DataFrame) -> None:
    top = max(1.0, positions[""].iloc[-1])
    ax.set_ylabel("offset")
    ax.yaxis.set_major_locator(MaxNLocator(10, integer=True))
    ax.set_xlim(0, positions.index[-1])
    ax.set_ylim(-0.12 * top, 1.12 * top)
    open_frame(ax)


def _title(ax: Axes, topic: str, resets: Collection[float]) -> None:
    """Write the topic's name, and mark the resets, above whose names it stands."""
    titled(ax, f"topic {topic}", pad=18 if len(resets) else 6)
    for x in resets:
        ax.axvline(x, color=INK, lw=1, ls=":")
        top = ax.get_xaxis_transform()
        ax.annotate("reset", (x, 1.01), xycoords=top, ha="center", va="bottom", fontsize=9)


def _steps(ax: Axes, events: pd.DataFrame, by: str) -> None:
    ax.set_xlabel("seconds" if by == "time" else "step")
    if by == "time":
        ax.xaxis.set_major_locator(MaxNLocator(12))
    else:
        _words(ax, events.drop_duplicates("x"))


def _words(ax: Axes, steps: pd.DataFrame) -> None:
    """Write below each step who did what: upright where side by side they would touch.

    Where there is no room for all, some are left out, rather of what happens often.
    """
    who = steps["who"].where(steps["cause"] != "reset", "")  # which moves everybody
    who = who.map(lambda name: name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…")
    room = _width(ax) / len(steps)
    longest = max(who.str.len().max(), steps["cause"].str.len().max())
    across = longest * _LETTER <= room
    names = (who + ("\n" if across else " ") + steps["cause"]).str.strip()
    chosen = _apart(steps, _LINE / room)
    ax.set_xticks(steps["x"][chosen], names[chosen], fontsize=8, rotation=0 if across else 90)
    if not all(chosen):
        ax.set_xlabel(f"{len(steps):,} steps, some of them named")


def _width(ax: Axes) -> float:
    """Return the width in points before any layout, so that each drawing finds the same."""
    figure, place = ax.get_figure(root=True), ax.get_subplotspec()
    assert figure
    box = place.get_position(figure) if place else ax.get_position()
    return float(box.width * figure.get_figwidth() * 72)


def _apart(steps: pd.DataFrame, distance: float) -> list[bool]:
    """Choose steps that are so many apart, from the left; first of what happens most seldom."""
    often = steps["cause"].map(steps["cause"].value_counts())
    taken: list[float] = []
    for x in steps["x"].iloc[often.argsort(kind="stable")]:
        if all(abs(x - other) >= distance for other in taken):
            taken.append(x)
    return [x in taken for x in steps["x"]]


def _labels(ax: Axes, positions: pd.DataFrame, colours: dict[str, str]) -> None:
    x, last = positions.index[-1], positions.iloc[-1]
    named = {who: f"{who}, lag {last[''] - last[who]:.0f}" for who in colours if who}
    named[""] = f"head {last['']:.0f}"
    label_ends(ax, [(x, last[who], named[who], colours[who]) for who in colours])
