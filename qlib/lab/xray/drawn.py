"""Pictures of an X-ray: the records as bars, the slots of a page before and after as boxes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from qlib.lab.database.query import Table
from qlib.lab.pictures.look import INK, new_axes, titled

# How a slot looks: colour, edge, hatch. In grey, too, each differs from the others.
_LOOKS = {
    "live": ("#56B4E9", "#56B4E9", ""),
    "dead": ("#E69F00", INK, "////"),
    "not used": ("white", "#999999", ""),
}
_ROOM = 40  # slots that have room for their numbers
_RECORD, _IMAGE = "#0072B2", "#CCE3F0"


def draw_records(records: Table, ax: Axes | None = None) -> None:
    """Draw a bar for each record, in the order of the log: what it says, and images of pages."""
    shown = records[records["xid"].notna()]
    ax = ax or new_axes(0.9 + 0.34 * len(shown))
    places = range(len(shown))
    images = shown["image"].tolist()
    said = (shown["bytes"] - shown["image"]).tolist()
    ax.barh(places, said, color=_RECORD, height=0.6, label="the record itself")
    if any(images):
        ax.barh(places, images, left=said, color=_IMAGE, hatch="..", height=0.6, label="page image")
        ax.legend(frameon=False, loc="lower right")
    for place, size in zip(places, shown["bytes"], strict=True):
        ax.text(size, place, f" {size:,}", va="center", color=INK, fontsize=9)
    ax.set_yticks(places, [_name(*it) for it in shown[["record", "relation"]].values.tolist()])
    ax.invert_yaxis()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(left=False)
    ax.set_xlabel("bytes")
    titled(ax, "the write-ahead log, from first to last")


def draw_pages(pages: Table, ax: Axes | None = None) -> None:
    """Draw the slots of each page, before and after; a bow leads from a row to its newer version."""
    places = list(dict.fromkeys(zip(pages["relation"], pages["page"], strict=True)))
    if not places:
        raise LookupError("no page of a table was written")
    most = int(pages["slot"].max())
    ax = ax or new_axes(0.9 + 1.35 * len(places))
    for row, (relation, page) in enumerate(places):
        top = row * 3.4
        of_page = pages[(pages["relation"] == relation) & (pages["page"] == page)]
        ax.text(0, top - 0.25, f"{relation}, page {page}", fontsize=10, color=INK)
        for line, when in enumerate(("before", "after")):
            ax.text(-0.01 * most, top + 0.5 + line * 1.3, when, ha="right", va="center", color=INK)
            _boxes(ax, of_page, when, top + line * 1.3, most)
        _bows(ax, of_page, top + 2.3)
    _frame(ax, most, len(places))


def _boxes(ax: Axes, pages: Table, when: str, top: float, most: int) -> None:
    for slot, state in zip(pages["slot"], pages[when], strict=True):
        face, edge, hatch = _LOOKS[_look(state)]
        box = (slot - 0.95, top), 0.9, 1.0
        ax.add_patch(Rectangle(*box, fc=face, ec=edge, hatch=hatch, lw=0.8))
        if most <= _ROOM and state:
            ax.text(slot - 0.5, top + 0.5, str(slot), ha="center", va="center", fontsize=8)


def _bows(ax: Axes, pages: Table, height: float) -> None:
    for slot, page, following in zip(pages["slot"], pages["page"], pages["next"], strict=True):
        there, _, target = (following or "(-1,0)").strip("()").partition(",")
        if int(there) == page:
            look = {"arrowstyle": "->", "color": INK, "connectionstyle": "arc3,rad=0.4"}
            ends = (int(target) - 0.5, height), (slot - 0.5, height)
            ax.annotate("", *ends, arrowprops=look, annotation_clip=False)


def _look(state: str | None) -> str:
    return state if state in ("live", "dead") else "not used"


def _name(record: str, relation: str | None) -> str:
    return f"{record}\n{relation}" if relation else record


def _frame(ax: Axes, most: int, pages: int) -> None:
    ax.set_xlim(-0.08 * most - 0.3, max(most, 8) + 0.2)
    ax.set_ylim(pages * 3.4 - 0.2, -0.8)
    ax.set_axis_off()
    swatches = [Patch(fc=f, ec=e, hatch=h, label=name) for name, (f, e, h) in _LOOKS.items()]
    ax.legend(handles=swatches, ncols=3, frameon=False, loc="upper right", bbox_to_anchor=(1, 1.12))
