"""Two pictures: publish against the size of the batch, and fan-out against the number of subscribers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from qlib.lab.pictures.look import INK, new_axes, open_frame, titled
from tests.bench import fanout, publish
from tests.bench.messages import HTTP, QLIB, SQL
from tests.bench.rounds import RATE, Result

_PLAIN = "INSERT, COPY"
# A colour for each system, of Okabe and Ito's as in the lab; ways into one system differ in their lines.
_LOOKS = {
    _PLAIN: (INK, ":", "o"),
    SQL: ("#0072B2", "-", "o"),
    HTTP: ("#0072B2", "--", "s"),
    QLIB: ("#0072B2", ":", "^"),
    "pgmq": ("#D55E00", "-", "D"),
    "PgQue": ("#E69F00", "-", "v"),
    "Redis always": ("#CC79A7", "-", "P"),
    "Redis everysec (≤ 1 s lost)": ("#CC79A7", "--", "X"),
    "NATS JetStream (OS cache)": ("#009E73", "-", "*"),
}
_TICKS = [number * 10**power for power in range(1, 7) for number in (1, 2, 5)]
_HEIGHT, _WIDTH = 4.8, 8.6  # inches

Series = Mapping[str, Sequence[tuple[int, float]]]


def draw(out: Path, results: Sequence[Result]) -> None:
    """Write those pictures whose part was measured, as publish.png and fanout.png."""
    sizes = {publish.case(size): size for size in publish.COUNTS}
    names = {"INSERT": _PLAIN, "COPY": _PLAIN}  # one line: a single row is inserted
    if series := _series(results, publish.PART, sizes, names):
        title = "Publish: messages a second against the size of the batch, one publisher"
        _picture(out / "publish.png", series, "messages in a batch (one commit each)", title)
    counts = {fanout.case(count): count for count in fanout.SUBSCRIBERS}
    if series := _series(results, fanout.PART, counts, {}):
        title = "Fan-out: messages delivered a second, from publish to the last ack"
        _picture(out / "fanout.png", series, "subscribers, each of whom reads all", title)


def _series(
    results: Sequence[Result], part: str, cases: Mapping[str, int], names: Mapping[str, str]
) -> Series:
    series: dict[str, list[tuple[int, float]]] = {}
    for result in results:
        name = names.get(result.contender, result.contender)
        known = result.part == part and result.unit == RATE and result.case in cases
        if known and name in _LOOKS:
            series.setdefault(name, []).append((cases[result.case], result.median))
    return series


def _picture(file: Path, series: Series, xlabel: str, title: str) -> None:
    ax = new_axes(_HEIGHT, _WIDTH)
    # named in the order in which the lines end, from above
    for name, points in sorted(series.items(), key=lambda named: -named[1][-1][1]):
        colour, line, shape = _LOOKS[name]
        look: dict[str, Any] = {"color": colour, "ls": line, "marker": shape, "ms": 5, "lw": 1.4}
        ax.plot(*zip(*points, strict=True), label=name, **look)
    _axes(ax, sorted({x for points in series.values() for x, _ in points}))
    ax.set_xlabel(xlabel)
    ax.set_ylabel("messages/s")
    titled(ax, title)
    beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False}
    ax.legend(**beside, labelcolor="linecolor", handlelength=2.8, labelspacing=0.9)
    plt.savefig(file, dpi=100)
    plt.close()


def _axes(ax: Axes, knob: Sequence[int]) -> None:
    plain = FuncFormatter(lambda value, _: f"{value:,.0f}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(FixedLocator(knob))
    ax.yaxis.set_major_locator(FixedLocator(_TICKS))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(plain)
    open_frame(ax)
