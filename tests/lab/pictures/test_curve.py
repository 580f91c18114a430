"""What the curve draws is what was measured, and what the model says."""

from math import nan

import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D

from qlib.lab import curve

NAMES = {"xlabel": "messages a batch", "ylabel": "messages/s"}


@pytest.fixture
def ax() -> Axes:
    return pyplot.subplots()[1]


def line(ax: Axes, label: str) -> Line2D:
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def data(ax: Axes, label: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in line(ax, label).get_xydata()]


def labels(ax: Axes) -> dict[str, str]:
    """Return the names beside the lines with their colours."""
    return {text.get_text(): to_hex(text.get_color()) for text in ax.texts}


def test_points_are_what_was_measured_in_the_order_of_x(ax: Axes) -> None:
    curve([4, 1, 2], [40, 10, 21], **NAMES, title="rate", ax=ax)
    assert data(ax, "measured") == [(1, 10), (2, 21), (4, 40)]
    assert line(ax, "measured").get_marker() == "o"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("messages a batch", "messages/s")
    assert ax.get_title("left") == "rate"
    assert labels(ax) == {}


def test_a_model_is_a_smooth_line_without_points(ax: Axes) -> None:
    curve([1, 2, 4], [11, 19, 42], lambda x: 10 * x, **NAMES, ax=ax)
    drawn = data(ax, "model")
    assert len(drawn) > 50 and all(y == pytest.approx(10 * x) for x, y in drawn)
    assert (drawn[0][0], drawn[-1][0]) == (1, 4)
    assert line(ax, "model").get_marker() == "None"
    assert line(ax, "measured").get_linestyle() == "None"
    assert set(labels(ax)) == {"measured", "model"}


def test_a_model_may_be_values(ax: Axes) -> None:
    curve([2, 1], [11, 19], [20, 10], **NAMES, ax=ax)
    assert data(ax, "model") == [(1, 10), (2, 20)]


def test_series_have_names_shapes_and_colours(ax: Axes) -> None:
    measured = {"kitchen": [1, 2], "mailer": [3, 4], "other": [5, 6]}
    curve([1, 2], measured, {"mailer": [3, 3]}, **NAMES, ax=ax)
    assert {name: [y for _, y in data(ax, name)] for name in measured} == measured
    assert labels(ax) == {
        "kitchen": "#0072b2",
        "mailer": "#009e73",
        "mailer, model": to_hex(line(ax, "mailer, model").get_color()),
        "other": "#cc79a7",
    }
    assert len({line(ax, name).get_marker() for name in measured}) == 3


def test_names_do_not_touch(ax: Axes) -> None:
    curve([1, 2], {"kitchen": [1, 2], "mailer": [3, 2], "billing": [1, 2]}, **NAMES, ax=ax)
    ax.figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 3
    assert not any(below.overlaps(above) for below, above in zip(boxes, boxes[1:], strict=False))


@pytest.mark.parametrize(
    ("x", "y", "scales"),
    [
        ([1, 29], [1, 29], ("linear", "linear")),
        ([1, 30], [1, 29], ("log", "linear")),
        ([1, 29], [1, 30], ("linear", "log")),
        ([0, 1000], [0, 1000], ("linear", "linear")),
        ([-1, 1000], [-1, 1000], ("linear", "linear")),
    ],
)
def test_axes_are_logarithmic_when_the_range_calls_for_it(
    ax: Axes, x: list[float], y: list[float], scales: tuple[str, str]
) -> None:
    curve(x, y, **NAMES, ax=ax)
    assert (ax.get_xscale(), ax.get_yscale()) == scales
    if scales[1] == "linear":
        assert ax.get_ylim()[0] == 0 or min(y) < 0
        assert ax.get_ylim()[1] > max(y)


def test_the_model_counts_for_the_scale(ax: Axes) -> None:
    curve([1, 2], [10, 20], [1, 31], **NAMES, ax=ax)
    assert ax.get_yscale() == "log"


@pytest.mark.parametrize("x", [[1, 2, 4, 8, 16], [1, 10, 100, 1000], [5]])
def test_the_values_of_the_knob_stand_below_the_axis(ax: Axes, x: list[float]) -> None:
    curve(x, x, **NAMES, ax=ax)
    ax.figure.draw_without_rendering()
    assert [label.get_text() for label in ax.get_xticklabels()] == [f"{it:,}" for it in x]


@pytest.mark.parametrize("x", [range(1, 200), range(1, 21)])
def test_where_they_would_touch_they_do_not(ax: Axes, x: range) -> None:
    curve(x, x, **NAMES, ax=ax)
    ax.figure.draw_without_rendering()
    low, high = ax.get_xlim()
    shown = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert 2 <= len(shown) <= 21


def test_a_gap_stays_a_gap(ax: Axes) -> None:
    curve([1, 2, 3], {"kitchen": [1, 2, nan], "mailer": [nan, 1, 2]}, **NAMES, ax=ax)
    assert [x for x, y in data(ax, "kitchen") if y == y] == [1, 2]
    assert {text.get_text(): text.xy for text in ax.texts}["kitchen"] == (2, 2)


def test_a_series_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="x has 2 values, kitchen has 1"):
        curve([1, 2], {"kitchen": [1]}, **NAMES)
    with pytest.raises(ValueError, match="x has 2 values, model has 3"):
        curve([1, 2], [1, 2], [1, 2, 3], **NAMES)
    assert not pyplot.get_fignums()


def test_without_axes_it_makes_a_figure_of_its_own() -> None:
    curve([1, 2], [1, 2], **NAMES)
    (number,) = pyplot.get_fignums()
    assert pyplot.figure(number).dpi == 100


def test_the_names_of_many_low_lines_stay_beside_the_axes(ax: Axes) -> None:
    rates = {name: [100, end] for end, name in enumerate("abcd")}
    curve([1, 2], rates, **NAMES, ax=ax)
    ax.figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 4
    assert all(low.y1 <= high.y0 + 1 for low, high in zip(boxes, boxes[1:], strict=False))
    assert boxes[0].y0 + boxes[0].height / 2 >= ax.bbox.y0 - 1


def grey(colour: str) -> float:
    """Return how light a colour is, as who sees no colours sees it."""
    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_model_and_measurement_differ_by_form_and_by_colour(ax: Axes) -> None:
    names = ["", "kitchen", "billing", "mailer", "other"]
    series = {name: [1, 2] for name in names}
    curve([1, 2], series, series, **NAMES, ax=ax)
    models = [line(ax, f"{name}, model" if name else "model") for name in names]
    points = [line(ax, name or "measured") for name in names]
    assert {one.get_linestyle() for one in models} == {"--"}
    assert {one.get_linestyle() for one in points} == {"None"}
    assert {one.get_marker() for one in models} == {"None"}
    assert "None" not in {one.get_marker() for one in points}
    for model, measured in zip(models, points, strict=True):
        pale, full = to_rgb(model.get_color()), to_rgb(measured.get_color())
        assert max(pale) - min(pale) <= (max(full) - min(full)) / 2  # nearly without a colour
        # each point has a dark edge, which no model has
        assert grey(measured.get_markeredgecolor()) < grey(model.get_color()) - 0.2
    assert len({model.get_color() for model in models}) == len(names)
