"""The strip by worker draws who had each message, and what came of it."""

from typing import Any

import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, Rectangle

from qlib.lab import sql, strip
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("orders")

LEASE = "select lease from queue.lease('orders', 'kitchen', %s, %s, %s)"


@pytest.fixture
def orders(queue_dsn: str) -> None:
    """Four messages, and a kitchen whose workers begin with the first and try each twice."""
    sql("select queue.create_topic('orders')")
    publish(4)
    sql("select queue.subscribe('orders', 'kitchen', 'earliest')")
    sql("select queue.configure('orders', 'kitchen', 2, 0)")


def publish(count: int) -> None:
    sql("select queue.publish_batch('orders', to_json(array_fill(1, array[%s::int])))", count)


@pytest.fixture
def ax() -> Axes:
    return pyplot.subplots()[1]


def lease(worker: str | None, count: int, seconds: float = 600) -> str:
    """Lease so many, as soon as there are any."""
    found = until(lambda: sql(LEASE, worker, count, seconds).to_dict("list")["lease"], 40)
    assert len(found) == count
    return str(found[0])


def over(how: str, lease: str, *offsets: int) -> None:
    sql(f"select queue.{how}('orders', 'kitchen', %s, %s)", lease, list(offsets) or None)


def draw(ax: Axes | None = None) -> Axes:
    strip("orders", subscriber="kitchen", by="worker", ax=ax)
    return ax or pyplot.gca()


def squares(ax: Axes) -> list[tuple[int, str, str, Any]]:
    """Return of each square, from the left: its lane, its colour and that of its edge, and its line."""
    found = [it for it in ax.patches if isinstance(it, Rectangle)]
    assert [int(it.get_x()) for it in found] == list(range(len(found)))
    return [
        (
            round(it.get_y() / 1.3),
            to_hex(it.get_facecolor()),
            to_hex(it.get_edgecolor()),
            it.get_linestyle(),
        )
        for it in found
    ]


def words(ax: Axes) -> list[tuple[int, str]]:
    return [(int(text.get_position()[0]), text.get_text()) for text in ax.texts]


def arrows(ax: Axes) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return from where to where each arrow leads: squares from the left, and heights in lanes."""
    found = [it._posA_posB for it in ax.patches if isinstance(it, FancyArrowPatch)]  # type: ignore[attr-defined]
    return [tuple((int(x), round(y / 1.3, 1)) for x, y in ends) for ends in found]  # type: ignore[misc]


def legend(ax: Axes) -> list[str]:
    found = ax.get_legend()
    assert found
    return [text.get_text() for text in found.get_texts()]


def lanes(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


DONE = ("#56b4e9", "#56b4e9", "-")
HELD = ("#ffffff", "#56b4e9", "-")
BACK = ("#fbe3b5", "#e69f00", "-")
EXPIRED = ("#ffffff", "#e69f00", (0, (2, 1.5)))
DEAD = ("#333333", "#333333", "-")


def test_a_square_tells_who_had_a_message_and_what_came_of_it(ax: Axes) -> None:
    ida = lease("Ida", 3)
    lease("Joe", 1, 0.001)
    lease("Kim", 1)
    over("ack_lease", ida, 1)
    over("nack", ida, 2)
    over("nack", lease("Ida", 1), 2)
    draw(ax)
    assert lanes(ax) == ["Ida", "Joe", "Kim"]
    assert squares(ax) == [
        *((0, *DONE), (0, *BACK), (0, *HELD)),
        *((1, *EXPIRED), (2, *HELD), (0, *DEAD)),
    ]
    assert words(ax) == [
        *((0, "1"), (1, "2"), (2, "3"), (3, "4")),
        *((4, "4"), (4, "2nd"), (5, "2"), (5, "2nd")),
    ]
    assert legend(ax) == ["done: 1", "held: 2", "given back: 1", "expired: 1", "dead letter: 1"]
    assert ax.get_title("left") == "topic orders, as the workers of kitchen leased it"


def test_an_arrow_leads_to_the_next_attempt(ax: Axes) -> None:
    ida = lease("Ida", 3)
    joe = lease("Joe", 1)
    over("nack", joe, 4)
    over("nack", ida, 2)
    over("nack", ida, 3)
    lease("Ida", 1)  # 4, from the lane below
    lease("Joe", 1)  # 2, from the lane above
    lease("Ida", 1)  # 3, in the same lane
    draw(ax)
    top, bottom = 0.0, 0.7  # of a square
    assert arrows(ax) == [
        ((3, 1 + top), (4, bottom)),
        ((1, bottom), (5, 1 + top)),
        ((2, top), (6, top)),
    ]


def test_what_is_held_for_longer_is_held(ax: Axes) -> None:
    held = lease("Ida", 1, 30)
    sql("select queue.extend('orders', 'kitchen', %s, 600)", held)
    sql("update queue.hold set due_at = held_at")  # as it was leased for, no more
    draw(ax)
    assert squares(ax) == [(0, *HELD)]
    sql("update queue.extension set expires_at = now()")
    pyplot.close("all")
    assert squares(draw()) == [(0, *EXPIRED)]


def test_messages_of_different_attempts_are_of_one_lease(ax: Axes) -> None:
    over("nack", lease("Ida", 2), 2)
    joe = lease("Joe", 3)  # 2 again, 3 and 4
    over("ack_lease", joe)
    draw(ax)
    assert words(ax)[2:] == [(2, "2"), (2, "2nd"), (3, "3"), (4, "4")]
    assert squares(ax) == [(0, *HELD), (0, *BACK), *[(1, *DONE)] * 3]


def test_a_redriven_message_begins_anew(ax: Axes) -> None:
    for _ in range(2):
        over("nack", lease("Ida", 4), 1, 2, 3, 4)
    sql("select queue.redrive('orders', 'kitchen', '{3}')")
    over("ack_lease", lease("Ida", 1))
    draw(ax)
    assert squares(ax) == [*[(0, *BACK)] * 4, *[(0, *DEAD)] * 4, (0, *DONE)]
    assert words(ax)[-2:] == [(7, "2nd"), (8, "3")]
    assert arrows(ax)[-1] == ((6, 0.0), (8, 0.0))


def test_only_the_epoch_at_hand_is_drawn(ax: Axes) -> None:
    lease("Ida", 2)
    sql("select queue.seek('orders', 'kitchen', 0)")
    lease("Joe", 1)
    assert lanes(draw(ax)) == ["Joe"]
    assert words(ax) == [(0, "1")]


@pytest.mark.parametrize(("count", "columns", "written"), [(0, 15, 0), (25, 25, 25), (26, 26, 0)])
def test_squares_become_smaller(count: int, columns: int, written: int) -> None:
    publish(30)
    if count:
        lease(None, count)
    ax = draw()
    assert len(squares(ax)) == count
    assert ax.get_xlim() == pytest.approx((-0.1, columns + 0.1))
    assert len(words(ax)) == written
    assert lanes(ax) == [""] * bool(count)


@pytest.mark.parametrize(("n", "word"), [(3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd")])
def test_attempts_are_counted(n: int, word: str, ax: Axes) -> None:
    lease("Ida", 1)
    sql("update queue.hold set attempt = %s", n)
    assert words(draw(ax)) == [(0, "1"), (0, word)]


def test_there_is_no_such_subscriber() -> None:
    with pytest.raises(LookupError, match="there is no subscriber 'nobody' of topic 'orders'"):
        strip("orders", subscriber="nobody", by="worker")
    assert not pyplot.get_fignums()
