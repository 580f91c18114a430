"""The picture of a rate or a latency against one knob, and of what a model says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from qlib.lab.pictures.look import INK, colours_of, label_ends, new_axes, open_frame, titled

Model = Callable[[float], float] | Sequence[float]

_HEIGHT = 3.6  # inches
_WIDE = 30.0  # a range from which on a linear axis squeezes the small values together
_APART = 0.06  # of the axis: with less between them, the values below it would touch
_SMOOTH = 100  # points of a line that is drawn from a function
_SHAPES = "osD^vP"  # so that the series can be told apart in grey, too
_GREY = 0.65  # to which the model's colour tends


def curve(
    x: Sequence[float],
    measured: Sequence[float] | Mapping[str, Sequence[float]],
    model: Model | Mapping[str, Model] | None = None,
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    ax: Axes | None = None,
) -> None:
    """Draw what was measured at each value of a knob as points, and a model as a dashed, pale line.

    `measured` has a value for each of `x` (NaN leaves a gap), or several such series by name;
    the series of one of the cast has its colour. `model` is a function of x, or its values at
    `x`; or several by name, each in a paler colour of the series that has the same name. An axis is
    logarithmic when its values are all above 0 and range over 30 times or more; a linear one of
    heights begins at 0. Without `ax` it makes a figure of pyplot's, which a notebook shows. Raises
    ValueError when a series has not as many values as `x`.
    """
    series = dict(measured) if isinstance(measured, Mapping) else {"": measured}
    models = {} if model is None else dict(model) if isinstance(model, Mapping) else {"": model}
    points = {name: _values(name or "measured", x, given) for name, given in series.items()}
    lines = {name: _line(name, x, given) for name, given in models.items()}
    ax = ax or new_axes(_HEIGHT)
    colours = colours_of(list(dict.fromkeys([*series, *models])))
    for (name, (at, heights)), shape in zip(points.items(), _SHAPES * len(points), strict=False):
        joined = "-" if not models else ""  # the eye follows the model, where there is one
        look: dict[str, Any] = {"marker": shape, "ms": 6, "ls": joined, "lw": 1, "zorder": 3}
        look |= {"mec": INK, "mew": 0.8, "clip_on": False}  # a point on the axis is seen whole
        ax.plot(at, heights, color=colours[name], label=name or "measured", **look)
    for name, (at, heights) in lines.items():
        ax.plot(at, heights, "--", color=_pale(colours[name]), lw=1.6, label=_model_name(name))
    _axes(ax, x, [heights for _, heights in [*points.values(), *lines.values()]])
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    titled(ax, title)
    if len(points) + len(lines) > 1:
        _names(ax)


Line = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def _values(name: str, x: Sequence[float], given: Sequence[float]) -> Line:
    """Return x and heights in the order of x."""
    if len(given) != len(x):
        raise ValueError(f"x has {len(x)} values, {name} has {len(given)}")
    order = np.argsort(np.asarray(x, float), kind="stable")
    return np.asarray(x, float)[order], np.asarray(given, float)[order]


def _line(name: str, x: Sequence[float], model: Model) -> Line:
    if not callable(model):
        return _values(_model_name(name), x, model)
    space = np.geomspace if _wide(np.asarray(x, float)) else np.linspace
    at = space(min(x), max(x), _SMOOTH)
    return at, np.array([model(float(value)) for value in at], float)


def _model_name(name: str) -> str:
    return f"{name}, model" if name else "model"


def _pale(colour: str) -> str:
    red, green, blue = ((part + 2 * _GREY) / 3 for part in to_rgb(colour))
    return to_hex((red, green, blue))


def _wide(values: np.ndarray[Any, Any]) -> bool:
    known = values[np.isfinite(values)]
    return bool(known.size and known.min() > 0 and known.max() / known.min() >= _WIDE)


def _axes(ax: Axes, x: Sequence[float], heights: list[np.ndarray[Any, Any]]) -> None:
    plain = FuncFormatter(lambda value, _: f"{value:,.12g}")
    knob, all_heights = np.unique(np.asarray(x, float)), np.concatenate(heights)
    ax.margins(x=0.03)
    if _wide(knob):
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    places = np.log(knob) if _wide(knob) else knob
    if len(knob) == 1 or np.diff(places).min() >= _APART * np.ptp(places):
        ax.set_xticks(knob)
    elif not _wide(knob):
        ax.xaxis.set_major_locator(MaxNLocator(10, integer=bool((knob % 1 == 0).all())))
    if _wide(all_heights):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=10))
        ax.yaxis.set_minor_locator(NullLocator())
    elif np.nanmin(all_heights) >= 0:
        ax.set_ylim(0, 1.08 * np.nanmax(all_heights) or 1.0)
    ax.xaxis.set_major_formatter(plain)
    ax.yaxis.set_major_formatter(plain)
    open_frame(ax)


def _names(ax: Axes) -> None:
    """Write beside the last point of each line what it is."""
    ends = []
    for line in ax.lines:
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        last = np.flatnonzero(np.isfinite(y))[-1]
        ends.append((x[last], y[last], str(line.get_label()), str(line.get_color())))
    label_ends(ax, ends)
