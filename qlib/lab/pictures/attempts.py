"""The picture of which worker had which message, and what came of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle

from qlib.lab.database.query import sql
from qlib.lab.pictures.look import INK, WIDTH, legend_below, new_axes, square, titled

# What came of a lease of a message: colour, edge, how the edge is drawn, and the colour of what is
# written in it.
_LOOKS = {
    "done": ("#56B4E9", "#56B4E9", "-", INK),
    "held": ("white", "#56B4E9", "-", INK),
    "given back": ("#FBE3B5", "#E69F00", "-", INK),
    "expired": ("white", "#E69F00", (0, (2, 1.5)), INK),
    "dead letter": (INK, INK, "-", "white"),
}
_FEWEST = 15  # columns
_WRITTEN = 25  # up to so many squares there is room for words in them
_LANE = 1.3  # the squares are 1

_LEASED = """
select coalesce(h.worker, '') as worker, h.attempt, o as "offset",
       case when d.outcome = 'd' then 'done' when d.outcome = 'x' then 'dead letter'
            when d.outcome = 'b' then 'given back'
            when greatest(h.due_at, e.expires_at) > clock_timestamp() then 'held'
            else 'expired' end as outcome
from queue.subscribers s
join queue.hold h on h.subscriber_id = s.subscriber_id and h.epoch = s.epoch and h.kind = 'l'
cross join lateral unnest(h.offsets) u
cross join lateral generate_series(lower(u), upper(u) - 1) o
left join queue.settled d on d.subscriber_id = h.subscriber_id and d.epoch = h.epoch and d.act = h.act
                         and o between d.first and d.last
left join lateral (select x.expires_at from queue.extension x
                   where x.subscriber_id = h.subscriber_id and x.lease = h.act - h.part
                   order by x.n desc limit 1) e on true
where s.topic = %s and s.subscriber = %s
order by h.act - h.part, o
"""


def draw_attempts(topic: str, subscriber: str, ax: Axes | None) -> None:
    """Draw one square for each time that a message was leased, in the lane of who leased it."""
    leased = sql(_LEASED, topic, subscriber)
    workers = list(dict.fromkeys(leased["worker"]))
    columns = max(_FEWEST, len(leased))
    ax = ax or new_axes(0.85 + _LANE * max(1, len(workers)) * WIDTH / columns)
    last: dict[int, Rectangle] = {}  # of each message
    for x, row in enumerate(leased.to_dict("records")):
        lane, offset = workers.index(row["worker"]), row["offset"]
        now = _square(ax, x, lane * _LANE, row, len(leased) <= _WRITTEN)
        if offset in last:
            _came_back(ax, last[offset], now)
        last[offset] = now
    _frame(ax, workers, columns, leased)
    titled(ax, f"topic {topic}, as the workers of {subscriber} leased it")


def _square(ax: Axes, x: float, y: float, row: dict[Any, Any], written: bool) -> Rectangle:
    fill, edge, line, ink = _LOOKS[row["outcome"]]
    look: dict[str, Any] = {"fc": fill, "ec": edge, "ls": line, "lw": 1.2}
    drawn = square(x, y, **look)
    ax.add_patch(drawn)
    words = {row["offset"]: (0.5, 8)}
    if row["attempt"] > 1:
        words = {row["offset"]: (0.36, 8), _ordinal(row["attempt"]): (0.75, 6)}
    for word, (down, size) in words.items() if written else ():
        centred: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
        ax.text(x + 0.5, y + down, str(word), fontsize=size, color=ink, **centred)
    return drawn


def _ordinal(n: int) -> str:
    tens = 10 < n % 100 < 20
    return f"{n}{'th' if tens else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def _came_back(ax: Axes, before: Rectangle, now: Rectangle) -> None:
    """Lead from one attempt at a message to the next: in a bow above a lane, or to another lane."""
    (x, y), (next_x, next_y) = before.get_xy(), now.get_xy()
    half, side = before.get_width() / 2, before.get_height()
    tail = x + half, y + (side if next_y > y else 0)
    tip = next_x + half, next_y + (side if next_y < y else 0)
    bow = -0.7 / (next_x - x) if next_y == y else 0
    look: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 6, "color": INK, "lw": 0.8}
    look |= {"connectionstyle": f"arc3,rad={bow}", "shrinkA": 0, "shrinkB": 0, "zorder": 0}
    ax.add_patch(FancyArrowPatch(tail, tip, **look))


def _frame(ax: Axes, workers: list[str], columns: int, leased: pd.DataFrame) -> None:
    ax.set_aspect("equal")
    ax.set_xlim(-0.1, columns + 0.1)
    ax.set_ylim(max(1, len(workers)) * _LANE - 0.2, -0.4)
    ax.set_xticks([])
    ax.set_yticks([lane * _LANE + 0.5 for lane in range(len(workers))], workers)
    ax.tick_params(axis="y", length=0, labelsize=9)
    ax.spines[:].set_visible(False)
    counts = Counter(leased["outcome"])
    legend_below(
        ax,
        [
            Patch(fc=fill, ec=edge, ls=line, label=f"{name}: {counts[name]:,}")
            for name, (fill, edge, line, _) in _LOOKS.items()
            if counts[name]
        ],
    )
