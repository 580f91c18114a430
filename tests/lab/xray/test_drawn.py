"""The pictures hold what the tables say."""

import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from qlib import lab

pytestmark = pytest.mark.usefixtures("queue_dsn")


def drawn() -> Axes:
    return pyplot.gcf().axes[0]


def boxes(ax: Axes) -> list[Rectangle]:
    return [it for it in ax.patches if isinstance(it, Rectangle)]


def test_a_bar_for_each_record_of_its_size() -> None:
    lab.sql("create table public.t (n int)")
    shot = lab.xray("insert into public.t values (1)")
    shot.draw_records()
    own = shot.records[shot.records["xid"].notna()]
    ends: dict[float, float] = {}
    for bar in boxes(drawn()):
        ends[bar.get_y()] = max(ends.get(bar.get_y(), 0), bar.get_x() + bar.get_width())
    assert len(own) == 2 and list(ends.values()) == own["bytes"].tolist()
    assert [it.get_text().split("\n")[0] for it in drawn().get_yticklabels()] == list(own["record"])


def test_a_box_for_each_slot_before_and_after() -> None:
    lab.sql("create table public.counter as select 1 as id, 0 as n")
    lab.xray("update public.counter set n = 1")
    lab.xray("update public.counter set n = 2").draw_pages()
    hatched = [bool(box.get_hatch()) for box in boxes(drawn())]
    assert hatched == [True, False, False] + [True, True, False]
    arrows = [it for it in drawn().texts if getattr(it, "arrow_patch", None)]
    assert len(arrows) == 2
    words = {it.get_text() for it in drawn().texts}
    assert {"public.counter, page 0", "before", "after", "1", "2", "3"} <= words


def test_without_a_page_there_is_no_picture() -> None:
    with pytest.raises(LookupError, match="no page"):
        lab.xray("select 1").draw_pages()
