"""What all pictures share: colours, sizes, and names beside what they name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
from IPython.core.getipython import get_ipython
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib_inline.config import InlineBackend

INK = "#333333"
FAINT = "#DDDDDD"
WIDTH = 7.6  # inches

_GAP = 0.06  # around a square

# Okabe and Ito's colours, which the colour-blind can tell apart. The cast of the chapters has its
# own, whoever else is in the picture.
_CAST = {"": INK, "kitchen": "#0072B2", "billing": "#D55E00", "mailer": "#009E73"}
_OTHERS = ("#CC79A7", "#56B4E9", "#E69F00")

_LINE_HEIGHT = 13.0  # points


def in_notebook() -> bool:
    """Whether a notebook's kernel runs us."""
    return hasattr(get_ipython(), "kernel")


def _show_pictures() -> None:
    """In a notebook, show pictures although $MPLBACKEND, made for scripts, may name another way.

    What `%matplotlib` has chosen before, of which this setting tells, stays.
    """
    shell = get_ipython()
    if shell and in_notebook() and InlineBackend not in map(type, shell.configurables):
        shell.enable_matplotlib("inline")  # type: ignore[no-untyped-call]


_show_pictures()


def colours_of(names: list[str]) -> dict[str, str]:
    """Return the colour of each name: the cast's own, another for others; "" is the ink."""
    others = [name for name in names if name not in _CAST]
    given = {name: _OTHERS[n % len(_OTHERS)] for n, name in enumerate(others)}
    return {name: (_CAST | given)[name] for name in names}


def new_axes(height: float, width: float = WIDTH) -> Axes:
    """Return the axes of a new figure of pyplot's, which a notebook shows; sizes in inches."""
    return plt.subplots(figsize=(width, height), dpi=100, layout="constrained")[1]


def titled(ax: Axes, title: str, pad: float = 6) -> None:
    """Write a title above the left end, `pad` points above it."""
    ax.set_title(title, loc="left", fontsize=11, color=INK, pad=pad)


def square(x: float, y: float, **look: Any) -> Rectangle:
    """Return the square of a strip whose corner is there; between two of them is a gap."""
    return Rectangle((x + _GAP, y + _GAP), 1 - 2 * _GAP, 1 - 2 * _GAP, **look)


def open_frame(ax: Axes) -> None:
    """Leave only the axes at the left and below, and lines across to read heights by."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color=FAINT, lw=0.6)
    ax.set_axisbelow(True)


def legend_below(ax: Axes, handles: list[Any]) -> None:
    """Write what the looks mean in one line below axes that have no label there."""
    look: dict[str, Any] = {"frameon": False, "fontsize": 9, "handlelength": 1, "handleheight": 1}
    space: dict[str, Any] = {"borderpad": 0, "columnspacing": 1.1, "handletextpad": 0.4}
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, 0), "borderaxespad": 0.4}
    below = ax.legend(handles=handles, ncols=len(handles), **look, **space, **place)
    below.set_in_layout(False)  # it would narrow the axes; an empty line keeps its place
    ax.set_xlabel(" ", fontsize=9)


def label_ends(ax: Axes, ends: Iterable[tuple[float, float, str, str]]) -> None:
    """Write names beside the ends of their lines, one below the other where these meet.

    Each end is x, y, text and colour. The limits and scales of the axes must be set before.
    """
    points = 72 / ax.figure.dpi
    ends = sorted(ends, key=lambda end: -end[1])
    wanted = [float(ax.transData.transform(end[:2])[1]) * points for end in ends]
    for end, height, place in zip(ends, wanted, _apart(wanted, ax.bbox.y0 * points), strict=True):
        x, y, text, colour = end
        look: dict[str, Any] = {
            "color": colour,
            "va": "center",
            "fontsize": 10,
            "annotation_clip": False,
        }
        ax.annotate(text, (x, y), (6, place - height), textcoords="offset points", **look)


def _apart(heights: list[float], floor: float) -> list[float]:
    """Move the heights, the greatest first, a line apart: down, and up again from the floor."""
    places: list[float] = []
    for height in heights:
        places.append(min(height, places[-1] - _LINE_HEIGHT) if places else height)
    for index, place in reversed(list(enumerate(places))):
        places[index] = max(place, floor)
        floor = places[index] + _LINE_HEIGHT
    return places
