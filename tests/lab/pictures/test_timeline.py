"""What the timeline draws is what the sessions did."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from qlib.lab import sql
from qlib.lab.pictures.timeline import timeline
from qlib.lab.sessions.session import Session
from qlib.lab.sessions.steps import SessionError

pytestmark = pytest.mark.usefixtures("nothing_leaks")

PUBLISH = "select queue.publish('orders', '1')"


@pytest.fixture
def cast(queue_dsn: str) -> Iterator[tuple[Session, ...]]:
    """A publishes and commits, B waits for it and stays open, C fails."""
    sql("select queue.create_topic('orders')")
    with ExitStack() as opened:
        a, b, c = (opened.enter_context(Session(name)) for name in "ABC")
        a.run(PUBLISH)  # 1
        b.run(PUBLISH)  # 2 … 5
        with pytest.raises(SessionError):
            c.run("select 1 / 0")  # 3
        a.commit()  # 4
        b.result()
        c.rollback()  # 6
        yield a, b, c


@pytest.fixture
def ax() -> Axes:
    return pyplot.subplots()[1]


def bars(ax: Axes, hatched: bool) -> list[tuple[float, float, float]]:
    """Return lane, left and right of each bar."""
    found = [
        bar for bar in ax.patches if isinstance(bar, Rectangle) and bool(bar.get_hatch()) == hatched
    ]
    return [
        (bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_x() + bar.get_width())
        for bar in found
    ]


def arrows(ax: Axes) -> list[tuple[float, int, int]]:
    """Return step, and the lanes from and to which it leads, of each arrow."""
    found = [text for text in ax.texts if isinstance(text, Annotation)]
    return [(arrow.xyann[0], round(arrow.xyann[1]), round(arrow.xy[1])) for arrow in found]


def words(ax: Axes) -> list[tuple[str, int, int]]:
    """Return each word with its step and lane."""
    found = [text for text in ax.texts if not isinstance(text, Annotation) and text.get_text()]
    places = [(text.get_text(), *text.get_position()) for text in found]
    return [(word, int(x), round(y)) for word, x, y in places]


def test_bars_are_transactions(cast: tuple[Session, ...], ax: Axes) -> None:
    timeline(*cast, ax=ax)
    found = [tuple(round(number, 2) for number in bar) for bar in bars(ax, hatched=False)]
    # B's goes on beyond the edge
    assert found == [(0, 0.65, 4.35), (1, 1.65, 6.7), (2, 2.65, 6.35)]
    assert ax.get_xlim() == pytest.approx((0.3, 6.7))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B", "C"]


def test_waits_are_hatched_and_lead_to_the_one_waited_for(
    cast: tuple[Session, ...], ax: Axes
) -> None:
    timeline(*cast, ax=ax)
    assert bars(ax, hatched=True) == [(1, 2, 5)]
    assert arrows(ax) == [(2, 1, 0)]


def test_words_stand_where_it_happened(cast: tuple[Session, ...], ax: Axes) -> None:
    timeline(*cast, ax=ax)
    assert words(ax) == [
        ("publish", 1, 0),
        ("1", 1, 0),
        ("commit", 4, 0),
        ("publish", 2, 1),
        ("2", 5, 1),
        ("select", 3, 2),
        ("22012", 3, 2),
        ("rollback", 6, 2),
    ]


def test_marks_say_how_it_ended(cast: tuple[Session, ...], ax: Axes) -> None:
    timeline(*cast, ax=ax)
    marks = [(line.get_marker(), *map(int, line.get_xydata()[0])) for line in ax.lines]
    marks = [mark for mark in marks if mark[0] != "None"]
    assert marks == [
        ("o", 1, 0),
        ("s", 4, 0),
        ("o", 2, 1),
        ("o", 5, 1),
        ("X", 3, 2),
        ("s", 6, 2),
    ]


def test_lanes_come_as_asked_and_arrows_only_within(cast: tuple[Session, ...], ax: Axes) -> None:
    a, b, c = cast
    timeline(c, b, ax=ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["C", "B"]
    assert arrows(ax) == []
    assert bars(ax, hatched=True) == [(1, 1, 3)]
    timeline(b, a, ax=pyplot.subplots()[1])
    assert arrows(pyplot.gca()) == [(2, 0, 1)]


def test_what_waits_still_has_no_end(cast: tuple[Session, ...], ax: Axes) -> None:
    a, b, _ = cast
    a.run(PUBLISH)
    timeline(a, b, ax=ax)
    assert bars(ax, hatched=True) == [(0, 5, pytest.approx(5.7)), (1, 2, 4)]
    assert arrows(ax) == [(5, 0, 1), (2, 1, 0)]


def test_it_makes_a_figure_wide_enough(cast: tuple[Session, ...]) -> None:
    timeline(*cast)
    small = pyplot.gcf().get_size_inches().tolist()
    for _ in range(12):
        cast[2].run("select 1")
    timeline(*cast)
    wide = pyplot.gcf().get_size_inches().tolist()
    assert small[0] < wide[0]
    assert small[1] == wide[1]


def test_nothing_cannot_be_drawn(queue_dsn: str) -> None:
    with Session("A") as session, pytest.raises(ValueError, match="nothing was done"):
        timeline(session)


ROW = "select queue.ack(topic, subscriber, 2, epoch) from queue.subscribers"
COLUMNS = "select a.* from queue.subscribers s, queue.ack(s.topic, s.subscriber, 2, s.epoch) a"
BATCH = "select {} queue.publish_batch('orders', '[1, 2]')"


@pytest.mark.parametrize(
    ("statement", "read_as"),
    [
        (ROW, "position 2"),
        (COLUMNS, "position 2"),
        ("select queue.reset('orders', 1)", "position 1"),
        (BATCH.format(""), "offsets 3 to 4"),
        (BATCH.format("* from"), "offsets 3 to 4"),
        ("select queue.get_topic('orders')", ""),
        ("select 1, 2", ""),
        ("select (1, 2)", ""),
        ("select 7", "7"),
    ],
)
def test_a_row_reads_as_what_people_look_for_in_it(
    queue_dsn: str, ax: Axes, statement: str, read_as: str
) -> None:
    sql("select queue.create_topic('orders')")
    sql("select queue.subscribe('orders', 'kitchen')")
    sql("select queue.publish_batch('orders', '[1, 2]')")
    with Session("A") as session:
        session.run(statement)
        timeline(session, ax=ax)
    assert [word for word, *_ in words(ax)][1:] == ([read_as] if read_as else [])
