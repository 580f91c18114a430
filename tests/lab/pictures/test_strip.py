"""What the strip draws is what became of each message."""

from collections.abc import Callable

import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from qlib import QSubscriber
from qlib.lab import sql, strip
from qlib.models import Message
from tests.lab.pictures.acks import acked
from tests.server_process import ServerProcess

pytestmark = pytest.mark.usefixtures("queue_dsn")

ONCE, TWICE, LOST, PENDING, BEFORE = "#56b4e9", "#e69f00", "#333333", "#ffffff", "#eeeeee"


def publish(count: int) -> None:
    sql("select queue.publish_batch('orders', to_json(array_fill(1, array[%s::int])))", count)


@pytest.fixture
def ten(queue_dsn: str) -> None:
    """Ten messages; billing is done with seven, the mailer came after the first three."""
    sql("select queue.create_topic('orders')")
    publish(3)
    sql("select queue.subscribe('orders', 'mailer')")
    publish(7)
    sql("select queue.subscribe('orders', 'billing', 'earliest')")
    sql(acked("billing", 7))


@pytest.fixture
def ax() -> Axes:
    return pyplot.subplots()[1]


def squares(ax: Axes) -> list[str]:
    """Return the colour of each square in offset order."""
    (collection,) = ax.collections
    return [to_hex(colour) for colour in collection.get_facecolor()]


def legend(ax: Axes) -> list[str]:
    found = ax.get_legend()
    assert found
    return [text.get_text() for text in found.get_texts()]


@pytest.mark.usefixtures("ten")
def test_a_square_tells_what_became_of_its_message(ax: Axes) -> None:
    strip("orders", [1, 2, 2, 9, 5, 6, 6, 6, 7], subscriber="billing", ax=ax)
    assert squares(ax) == [
        *(ONCE, TWICE, LOST, LOST, ONCE),
        *(TWICE, ONCE, PENDING, ONCE, PENDING),
    ]
    assert legend(ax) == [
        "delivered once: 4",
        "twice or more: 2",
        "lost: 2",
        "pending: 2",
        "position 7",
    ]
    assert [text.get_text() for text in ax.texts] == [str(n) for n in range(1, 11)]


@pytest.mark.usefixtures("ten")
def test_a_position_that_goes_back_makes_lost_ones_pending(ax: Axes) -> None:
    sql("select queue.seek('orders', 'billing', 3)")
    strip("orders", [1, 2], subscriber="billing", ax=ax)
    assert squares(ax) == [ONCE, ONCE, LOST, *[PENDING] * 7]


@pytest.mark.usefixtures("ten")
def test_without_a_subscriber_nothing_is_lost(ax: Axes) -> None:
    strip("orders", [1, 2, 2], ax=ax)
    assert squares(ax) == [ONCE, TWICE, *[PENDING] * 8]
    assert legend(ax) == ["delivered once: 1", "twice or more: 1", "pending: 8"]
    assert not ax.lines


@pytest.mark.usefixtures("ten")
def test_what_came_before_the_start_is_not_lost(ax: Axes) -> None:
    sql(acked("mailer", 5))
    strip("orders", [4], subscriber="mailer", ax=ax)
    assert squares(ax) == [*[BEFORE] * 3, ONCE, LOST, *[PENDING] * 5]
    assert "before its start: 3" in legend(ax)


@pytest.mark.usefixtures("ten")
def test_a_seek_back_asks_for_what_came_before_the_start(ax: Axes) -> None:
    sql("select queue.seek('orders', 'mailer', 1)")
    sql(acked("mailer", 5))
    strip("orders", [4], subscriber="mailer", ax=ax)
    assert squares(ax)[:5] == [BEFORE, LOST, LOST, ONCE, LOST]


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize(("position", "edge"), [(0, (0, 0)), (7, (7, 0)), (25, (25, 0))])
def test_the_position_is_the_edge_after_its_square(
    ax: Axes, position: int, edge: tuple[int, int]
) -> None:
    publish(20)
    sql("select queue.seek('orders', 'billing', %s)", position)
    strip("orders", [], subscriber="billing", ax=ax)
    (line,) = ax.lines
    assert (line.get_xdata()[0], round(min(line.get_ydata()))) == edge
    assert to_hex(line.get_color()) == "#d55e00"


def test_messages_are_as_good_as_offsets(
    start_server: Callable[[], ServerProcess], ax: Axes
) -> None:
    sql("select queue.create_topic('orders')")
    publish(3)
    with QSubscriber("orders", "billing", "earliest", url=start_server().url) as billing:
        seen: list[Message] = [*billing.fetch(2), *billing.fetch(1)]
    strip("orders", seen, ax=ax)
    assert squares(ax) == [TWICE, ONCE, PENDING]


@pytest.mark.parametrize(
    ("count", "columns", "rows"),
    [(0, 25, 1), (25, 25, 1), (26, 25, 2), (300, 50, 6), (900, 100, 9)],
)
def test_rows_are_wrapped(count: int, columns: int, rows: int) -> None:
    sql("select queue.create_topic('orders')")
    if count:
        publish(count)
    strip("orders", [])
    ax = pyplot.gca()
    assert len(squares(ax)) == count
    assert ax.get_xlim() == pytest.approx((-0.1, columns + 0.1))
    assert ax.get_ylim() == pytest.approx((rows + 0.1, -0.1))
    assert len(ax.texts) == (count if columns == 25 else 0)
    firsts = [label.get_text() for label in ax.get_yticklabels()]
    assert firsts == ([str(n) for n in range(1, count + 1, columns)] if columns > 25 else [])


@pytest.mark.usefixtures("ten")
def test_the_legend_is_no_wider_than_the_squares() -> None:
    publish(170)
    sql(acked("mailer", 150))
    strip("orders", [4, 4], subscriber="mailer")
    figure = pyplot.gcf()
    figure.draw_without_rendering()
    found = pyplot.gca().get_legend()
    assert found and found.get_window_extent().x1 <= figure.bbox.x1
    assert pyplot.gca().get_window_extent().width > 0.95 * figure.bbox.width


@pytest.mark.usefixtures("ten")
@pytest.mark.parametrize("offset", [0, 11])
def test_what_never_was_cannot_be_seen(offset: int) -> None:
    with pytest.raises(
        ValueError, match=f"offset {offset} was seen, but the topic has had 1 to 10"
    ):
        strip("orders", [offset])
    assert not pyplot.get_fignums()


@pytest.mark.usefixtures("ten")
def test_there_is_no_such_topic_or_subscriber() -> None:
    with pytest.raises(LookupError, match="there is no topic 'nothing'"):
        strip("nothing", [], subscriber="billing")
    with pytest.raises(LookupError, match="there is no subscriber 'nobody' of topic 'orders'"):
        strip("orders", [], subscriber="nobody")
