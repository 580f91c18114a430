"""What the ladder draws is what the tables hold."""

from collections.abc import Iterator

import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from qlib.lab import ladder, sql
from tests.lab.pictures.acks import acked

pytestmark = pytest.mark.usefixtures("queue_dsn")

# create 0, publish 1, kitchen 2, ack 3, batch 4, billing 5, reset 6, kitchen's ack 7, seek 8
STORY = (
    "select queue.create_topic('orders')",
    "select queue.publish('orders', '1')",
    "select queue.subscribe('orders', 'kitchen', 'earliest')",
    acked("kitchen", 1),
    "select queue.publish_batch('orders', '[2, 3]')",
    "select queue.subscribe('orders', 'billing')",
    "select queue.reset('orders', 2)",
    acked("kitchen", 3),
    "select queue.seek('orders', 'billing', 0)",
)
HEAD = [0, 1, 1, 1, 3, 3, 3, 3, 3]
KITCHEN = [None, None, 0, 1, 1, 1, 2, 3, 3]
BILLING = [None, None, None, None, None, 3, 2, 2, 0]


@pytest.fixture
def story(queue_dsn: str) -> None:
    for statement in STORY:
        sql(statement)


@pytest.fixture
def ax() -> Iterator[Axes]:
    figure, drawn = pyplot.subplots()
    yield drawn
    figure.draw_without_rendering()


def lines(ax: Axes) -> dict[object, list[float | None]]:
    """Return every line's offsets, one a step; the last, which only leads out, twice."""
    drawn = {}
    for line in ax.lines:
        if not str(line.get_label()).startswith("_"):
            assert line.get_drawstyle() == "steps-post"
            drawn[line.get_label()] = [None if y != y else y for y in line.get_ydata()]
    return drawn


@pytest.mark.usefixtures("story")
def test_lines_are_the_positions(ax: Axes) -> None:
    ladder("orders", ax=ax)
    assert lines(ax) == {
        "head": [*HEAD, HEAD[-1]],
        "kitchen": [*KITCHEN, KITCHEN[-1]],
        "billing": [*BILLING, BILLING[-1]],
    }
    assert list(ax.lines[0].get_xdata())[:-1] == list(range(len(STORY)))


@pytest.mark.usefixtures("story")
def test_another_position_is_another_line(ax: Axes) -> None:
    sql('update queue.position set "offset" = 0 where cause = \'ack\' and "offset" = 1')
    ladder("orders", ax=ax)
    assert lines(ax)["kitchen"] != [*KITCHEN, KITCHEN[-1]]


@pytest.mark.usefixtures("story")
def test_resets_and_seeks_are_marked(ax: Axes) -> None:
    ladder("orders", ax=ax)
    hollow = {
        (x, y)
        for line in ax.lines
        if line.get_markerfacecolor() == "white"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert hollow == {(6, 2), (8, 0)}
    assert [text.get_text() for text in ax.texts][0] == "reset"


@pytest.mark.usefixtures("story")
def test_names_and_lags_stand_at_the_ends_without_touching(ax: Axes) -> None:
    ladder("orders", ax=ax)
    labels = [text for text in ax.texts if text.get_text() != "reset"]
    assert [label.get_text() for label in labels] == ["head 3", "kitchen, lag 0", "billing, lag 3"]
    ax.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in labels]
    assert not any(above.overlaps(below) for above, below in zip(boxes, boxes[1:], strict=False))


@pytest.mark.usefixtures("story")
def test_the_cast_has_its_colours_everywhere(ax: Axes) -> None:
    sql("select queue.subscribe('orders', %s)", "someone")
    sql("select queue.create_topic('other')")
    sql("select queue.subscribe('other', 'billing')")
    _, other = pyplot.subplots()
    ladder("orders", ax=ax)
    ladder("other", ax=other)
    colours = [
        {line.get_label(): to_hex(line.get_color()) for line in axes.lines} for axes in (ax, other)
    ]
    assert colours[0]["billing"] == colours[1]["billing"] == "#d55e00"
    assert len({colours[0][name] for name in lines(ax)}) == len(lines(ax)) == 4


@pytest.mark.usefixtures("story")
def test_by_time_the_axis_is_seconds(ax: Axes) -> None:
    ladder("orders", by="time", ax=ax)
    assert ax.get_xlabel() == "seconds"
    x = list(ax.lines[0].get_xdata())
    assert x[0] == 0 and x == sorted(set(x))
    assert lines(ax)["kitchen"] == [*KITCHEN, KITCHEN[-1]]


def test_an_empty_topic_has_a_picture(ax: Axes) -> None:
    sql("select queue.create_topic('orders')")
    ladder("orders", ax=ax)
    assert lines(ax) == {"head": [0, 0]}


@pytest.mark.usefixtures("story")
def test_without_axes_it_makes_a_figure_of_its_own() -> None:
    ladder("orders")
    (number,) = pyplot.get_fignums()
    assert pyplot.figure(number).dpi == 100


def test_there_is_no_such_topic() -> None:
    with pytest.raises(LookupError, match="there is no topic 'nothing'"):
        ladder("nothing")


def words(ax: Axes) -> dict[int, str]:
    """Return what stands below each step that is named, in one line."""
    named = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    return {round(x): label.get_text().replace("\n", " ") for x, label in named}


def long_story(steps: int, reset_at: int) -> list[str]:
    """Let so many steps happen, one of them a reset; return what they are called."""
    sql("select queue.create_topic('orders')")
    sql("select queue.subscribe('orders', 'kitchen', 'earliest')")
    told, position, head = ["create", "kitchen start"], 0, 0
    while len(told) < steps:
        if len(told) == reset_at:
            sql("select queue.reset('orders', 0)")
            told, position = [*told, "reset"], 0
        elif position < head:
            position += 1
            sql(acked("kitchen", position))
            told.append("kitchen ack")
        else:
            head += 1
            sql("select queue.publish('orders', '1')")
            told.append("publish")
    return told


def test_few_steps_are_named_side_by_side(ax: Axes) -> None:
    told = long_story(9, reset_at=5)
    ladder("orders", ax=ax)
    assert words(ax) == dict(enumerate(told))
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {0}
    assert ax.get_xlabel() == "step"


@pytest.mark.parametrize("steps", [13, 20, 35])
def test_more_steps_are_all_named_upright(steps: int) -> None:
    told = long_story(steps, reset_at=9)
    ladder("orders")
    ax = pyplot.gca()
    assert words(ax) == dict(enumerate(told))
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {90}
    assert_they_do_not_touch(ax)


def test_of_many_steps_some_are_named_and_surely_the_rare_ones() -> None:
    told = long_story(100, reset_at=51)
    ladder("orders")
    ax = pyplot.gca()
    named = words(ax)
    assert 25 <= len(named) < 50
    assert all(told[x] == word for x, word in named.items())
    assert {0, 51} <= named.keys() and ax.get_xlabel() == "100 steps, some of them named"
    assert_they_do_not_touch(ax)


def assert_they_do_not_touch(ax: Axes) -> None:
    ax.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert len(boxes) > 12
    assert not any(left.overlaps(right) for left, right in zip(boxes, boxes[1:], strict=False))


def test_a_long_name_is_shortened_and_what_it_did_is_not(ax: Axes) -> None:
    sql("select queue.create_topic('orders')")
    sql("select queue.subscribe('orders', %s)", "n" * 200)
    ladder("orders", ax=ax)
    assert words(ax)[1] == "n" * 15 + "… start"


def test_the_word_reset_does_not_touch_the_title(ax: Axes) -> None:
    long_story(35, reset_at=2)
    ladder("orders", ax=ax)
    ax.figure.draw_without_rendering()
    (reset,) = [text for text in ax.texts if text.get_text() == "reset"]
    title = ax._left_title.get_window_extent()
    assert ax.get_title("left") == "topic orders"
    assert not reset.get_window_extent().overlaps(title)
