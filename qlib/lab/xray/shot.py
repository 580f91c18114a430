"""What an X-ray shows."""

from __future__ import annotations

from html import escape
from typing import Any

from matplotlib.axes import Axes

from qlib.lab.database.query import Table
from qlib.lab.xray import drawn, explained
from qlib.lab.xray.explained import Plan

_GONE = "{} is not in the plan: PostgreSQL has put its body there (it inlines such functions)"


class Xray:
    """What PostgreSQL did for a statement, or while a call ran.

    - `rows`: what the statement returned, or the call.
    - `statements`: a row for each statement that was run, also inside functions, in the order in
      which they ended. What a statement calls is counted in it too: do not add them up. An
      expression of PL/pgSQL such as `x := y + 1` is no statement. `inlined` names functions that are
      not in the plan, since PostgreSQL has put their bodies there, or their results.
    - `records`: what was written to the WAL from the begin to the commit, with `bytes` of which
      `image` are copies of whole pages. A record without `xid` carries no transaction's number, or
      clears away in passing what others left: it may be of this one or of another. Left out are
      `others`, records that carry another's; of a call none is.
    - `pages`: a row for each slot of the pages of tables that were written, `before` and `after`;
      `next` is where the newer version of a row is.
    - `plans`: all that auto_explain told, as it came.
    """

    def __init__(
        self, plans: list[Plan], rows: Any, records: Table, others: int, pages: Table
    ) -> None:
        self.plans = plans
        self.rows = rows
        self.statements = explained.statements(plans)
        self.records = records
        self.others = others
        self.pages = pages

    def __repr__(self) -> str:
        """Return how much there is to see."""
        size = int(self.records["bytes"].sum())
        written = f"{_count(len(self.records), 'WAL record')} of {_count(size, 'byte')}"
        return f"<X-ray: {_count(len(self.plans), 'statement')}, {written}>"

    def draw_records(self, ax: Axes | None = None) -> None:
        """Draw the records of this transaction as bars, from first to last."""
        drawn.draw_records(self.records, ax)

    def draw_pages(self, ax: Axes | None = None) -> None:
        """Draw the slots of the pages, before and after; LookupError when none was written."""
        drawn.draw_pages(self.pages, ax)

    def _repr_html_(self) -> str:
        gone = sorted({f"queue.{name}" for plan in self.plans for name in explained.inlined(plan)})
        notes = "".join(f"<br><small>{escape(_GONE.format(name))}</small>" for name in gone)
        plans = "".join(_plan_html(plan) for plan in self.plans)
        parts = [f"<b>{escape(repr(self)[1:-1])}</b>{notes}{plans}"]
        parts += [table._repr_html_() for table in (self.records, self.pages) if len(table)]
        return "".join(parts)


def _plan_html(plan: Plan) -> str:
    text, _, rows, buffers, records, size, _ = explained.row(plan)
    counts = f"{_count(rows, 'row')}, {_count(buffers, 'buffer')}"
    if records:
        counts += f", {_count(records, 'WAL record')} of {_count(size, 'byte')}"
    tree = "\n".join("  " * depth + words for depth, words in explained.nodes(plan["Plan"]))
    inside = f"<pre>{escape(explained.query(plan))}\n\n{escape(tree)}</pre>"
    summary = f"<code>{escape(text)}</code> {counts}"
    return f"<details><summary>{summary}</summary>{inside}</details>"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
