"""The picture of what came of a worker that was killed after each of its statements in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from qlib.lab.pictures.look import INK, WIDTH, legend_below, new_axes, square, titled

# How often it came about: colour, edge, and the colour of the number in it, as in `strip`.
_LOOKS = {
    "once": ("#56B4E9", "#56B4E9", INK),
    "twice or more": ("#E69F00", INK, INK),
    "never": (INK, INK, "white"),
}
_ROW = 0.95  # inches, with the words below the squares
_LOW = 1.75  # squares from one row to the next


def crash_strip(found: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> None:
    """Draw what `crash_points` has found: a row for each worker, under its name, a square a crash.

    Below a square stands after which statement the worker was killed, in it how often what was
    counted had come about, once it was started again and through. Without `ax` it makes a figure of
    pyplot's, which a notebook shows. Raises ValueError when nothing was found.
    """
    if not found:
        raise ValueError("no crash to draw")
    ax = ax or new_axes(0.75 + _ROW * len(found))
    states: Counter[str] = Counter()
    for row, table in enumerate(found.values()):
        for column, (after, count) in enumerate(table.itertuples(index=False)):
            state = "never" if not count else "once" if count == 1 else "twice or more"
            states[state] += 1
            _square(ax, column, row * _LOW, str(count), state, after)
    _frame(ax, list(found), max(map(len, found.values())))
    handles = [
        Patch(fc=fill, ec=edge, label=f"{state}: {states[state]}")
        for state, (fill, edge, _) in _LOOKS.items()
    ]
    legend_below(ax, handles)
    counted = {str(table.columns[1]) for table in found.values()}
    titled(ax, f"{' and '.join(sorted(counted))}, when killed after …")


def _square(ax: Axes, x: float, y: float, count: str, state: str, after: str) -> None:
    fill, edge, ink = _LOOKS[state]
    ax.add_patch(square(x, y, facecolor=fill, edgecolor=edge))
    ax.text(x + 0.5, y + 0.5, count, ha="center", va="center_baseline", fontsize=10, color=ink)
    for line, word in enumerate(after.split(" ")):
        ax.text(x + 0.5, y + 1.22 + 0.23 * line, word, ha="center", fontsize=8, color=INK)


def _frame(ax: Axes, names: list[str], columns: int) -> None:
    ax.set_xlim(-0.1, max(columns, WIDTH / _ROW) + 0.1)
    ax.set_ylim(len(names) * _LOW, -0.1)
    ax.set_xticks([])
    ax.set_yticks([row * _LOW + 0.5 for row in range(len(names))], names, fontsize=10)
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)
