"""Pages of tables before and after, as pageinspect reads them."""

from __future__ import annotations

from psycopg2.extensions import connection, cursor

from qlib.lab.database.query import Table
from qlib.lab.xray.rights import extended

COLUMNS = ["relation", "page", "slot", "bytes", "before", "after", "next"]

_AT_MOST = 16  # pages of a table that are photographed: its last ones, where rows are added
_TABLES = """
select oid::regclass::text, (pg_relation_size(oid) / current_setting('block_size')::int)::int
from pg_class
where relkind = 'r' and relpersistence = 'p'
  and relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
"""
_SLOTS = """
select page, lp, lp_flags, lp_len, t_ctid::text
from generate_series(%(first)s, %(last)s) page,
  heap_page_items(get_raw_page(%(table)s, page))
order by 1, 2
"""
# asked after the look at the slots: reading may tidy a page
_SEEN = "select ctid::text from {} where ctid >= '({},0)'"
_UNUSED, _NORMAL, _REDIRECT, _DEAD = range(4)

Slot = tuple[int, str, str | None]  # bytes, state, next
Photograph = dict[tuple[str, int], dict[int, Slot]]


def photograph(session: connection) -> Photograph:
    """Return the slots of the last pages of all tables.

    A slot is `live` when a new transaction sees its row, and `dead` when it does not: the row was
    deleted, has a newer version, or is of somebody who has not committed.
    """
    found: Photograph = {}
    with extended(session) as done:
        done.execute(_TABLES)
        for table, size in done.fetchall():
            if size:
                _develop(done, table, max(0, size - _AT_MOST), size - 1, found)
    return found


def developed(before: Photograph, after: Photograph, records: Table) -> Table:
    """Return a row for each slot of the pages that the records have changed, if in the picture."""
    written = dict.fromkeys(zip(records["relation"], records["page"], strict=True))
    rows: list[list[object]] = []
    for place in written:
        known = before.get(place, {})  # a new page was empty before
        for slot, (size, state, following) in after.get(place, {}).items():
            then = known[slot][1] if slot in known else None
            rows.append([*place, slot, size, then, state, following])
    return Table(rows, columns=COLUMNS, dtype=object)


def _develop(done: cursor, table: str, first: int, last: int, found: Photograph) -> None:
    done.execute(_SLOTS, {"table": table, "first": first, "last": last})
    slots = done.fetchall()
    done.execute(_SEEN.format(table, first))
    seen = {ctid for (ctid,) in done}
    for page, slot, flags, size, ctid in slots:
        here = f"({page},{slot})"
        following = ctid if flags == _NORMAL and ctid != here else None
        state = _state(flags, here in seen)
        found.setdefault((table, page), {})[slot] = (size, state, following)


def _state(flags: int, seen: bool) -> str:
    if flags == _NORMAL:
        return "live" if seen else "dead"
    return {_UNUSED: "free", _REDIRECT: "redirect", _DEAD: "dead"}[flags]
