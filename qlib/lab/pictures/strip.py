"""The picture of what became of each message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from qlib.lab.database.query import sql
from qlib.lab.pictures.attempts import draw_attempts
from qlib.lab.pictures.look import INK, WIDTH, colours_of, legend_below, new_axes, square, titled
from qlib.models import Message

# What became of a message: colour, edge, and the colour of the offset in it. None is the colour of
# one of the cast, and in grey each differs from the others.
_LOOKS = {
    "delivered once": ("#56B4E9", "#56B4E9", INK),
    "twice or more": ("#E69F00", INK, INK),
    "lost": (INK, INK, "white"),
    "pending": ("white", "#999999", INK),
    "before its start": ("#EEEEEE", "#EEEEEE", "#999999"),
}
_COLUMNS = (25, 50, 100)  # in the first of them there is room for the offsets
_ROWS = 10  # more, and the columns get more too

_STATE = """
select t.head, s.position,
  (select case when bool_or(p.cause = 'start') then min(p."offset") else 0 end
   from queue.position p where p.subscriber_id = s.subscriber_id) as start
from queue.topics t left join queue.subscribers s on s.topic = t.topic and s.subscriber = %s
where t.topic = %s
"""


def strip(
    topic: str,
    seen: Iterable[Message | int] = (),
    *,
    subscriber: str = "",
    by: str = "message",
    ax: Axes | None = None,
) -> None:
    """Draw one square a message, in offset order: what became of each.

    By "worker" it is one square a lease of a message, in the order of the leases: who of the
    subscriber's workers had it, in the lane that bears the name, and what came of that. An arrow
    leads to the next attempt, whose number stands below the offset. The database tells all of this
    for the epoch at hand, some ten minutes back; `seen` says nothing then.

    By "message", `seen` are the messages, or their offsets, that had an effect, as often as they
    had it: what a handler wrote down. A message not among them is pending; but with the name of a
    `subscriber`, it is lost when the subscriber's position says that it is done, and it is before
    the start when the subscriber was never to get it. Without `ax` it makes a figure of pyplot's,
    which a notebook shows. Raises LookupError when there is no such topic or subscriber, ValueError
    when something was seen that the topic never had, and whatever `sql` raises.
    """
    found = sql(_STATE, subscriber, topic)
    if found.empty or (subscriber and found.isna().any(axis=None)):
        missing = f"subscriber {subscriber!r} of " if not found.empty else ""
        raise LookupError(f"there is no {missing}topic {topic!r}")
    if by == "worker":
        return draw_attempts(topic, subscriber, ax)
    head = int(found["head"][0])
    position, start = (int(found[it][0]) if subscriber else 0 for it in ("position", "start"))
    states = _states(seen, head, position, start)
    columns = next((n for n in _COLUMNS if head <= n * _ROWS), _COLUMNS[-1])
    rows = max(1, -(-head // columns))
    ax = ax or new_axes(0.85 + rows * WIDTH / columns)
    _squares(ax, states, columns)
    legend = _legend(states, bool(subscriber))
    if subscriber:
        legend.append(_position(ax, position, columns, colours_of([subscriber])[subscriber]))
    _frame(ax, columns, rows, legend)
    titled(ax, f"topic {topic}" + (f", as {subscriber} saw it" if subscriber else ""))


def _states(seen: Iterable[Message | int], head: int, position: int, start: int) -> list[str]:
    """Return what became of the messages 1 … head."""
    times = Counter(it.offset if isinstance(it, Message) else int(it) for it in seen)
    for offset in times:
        if not 1 <= offset <= head:
            raise ValueError(f"offset {offset} was seen, but the topic has had 1 to {head}")

    def state(offset: int) -> str:
        if times[offset]:
            return "delivered once" if times[offset] == 1 else "twice or more"
        if offset <= start:
            return "before its start"
        return "lost" if offset <= position else "pending"

    return [state(offset) for offset in range(1, head + 1)]


def _place(offset: int, columns: int) -> tuple[int, int]:
    """Return column and row of a message, from 0."""
    row, column = divmod(offset - 1, columns)
    return column, row


def _squares(ax: Axes, states: list[str], columns: int) -> None:
    squares = []
    for offset, state in enumerate(states, 1):
        x, y = _place(offset, columns)
        squares.append(square(x, y))
        if columns == _COLUMNS[0]:
            look: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 8}
            ax.text(x + 0.5, y + 0.5, str(offset), color=_LOOKS[state][2], **look)
    fills, edges = ([_LOOKS[state][n] for state in states] for n in (0, 1))
    width = _COLUMNS[0] / columns
    ax.add_collection(
        PatchCollection(squares, facecolors=fills, edgecolors=edges, linewidths=width)
    )


def _position(ax: Axes, position: int, columns: int, colour: str) -> Line2D:
    """Draw the edge between what the subscriber is done with and the rest; return its legend."""
    x, y = _place(position, columns) if position else (-1, 0)
    ax.plot([x + 1, x + 1], [y - 0.1, y + 1.1], color=colour, lw=3, solid_capstyle="butt")
    look: dict[str, Any] = {"marker": "|", "ms": 12, "mew": 3, "ls": ""}
    return Line2D([], [], color=colour, label=f"position {position:,}", **look)


def _legend(states: list[str], judged: bool) -> list[Any]:
    """Return a swatch for each kind of square, with its count; the last two may not apply."""
    counts = Counter(states)
    named = [it for it in _LOOKS if counts[it] or it != "before its start"]
    if not judged:
        named.remove("lost")
    return [
        Patch(fc=_LOOKS[it][0], ec=_LOOKS[it][1], label=f"{it}: {counts[it]:,}") for it in named
    ]


def _frame(ax: Axes, columns: int, rows: int, legend: list[Any]) -> None:
    ax.set_aspect("equal")
    ax.set_xlim(-0.1, columns + 0.1)
    ax.set_ylim(rows + 0.1, -0.1)
    ax.set_xticks([])
    firsts = [row * columns + 1 for row in range(rows)] if columns > _COLUMNS[0] else []
    every = -(-len(firsts) // 25) or 1  # so that they do not run into each other
    ax.set_yticks(
        [n // columns + 0.5 for n in firsts[::every]], [f"{n:,}" for n in firsts[::every]]
    )
    ax.tick_params(axis="y", length=0, labelsize=8)
    ax.spines[:].set_visible(False)
    legend_below(ax, legend)
