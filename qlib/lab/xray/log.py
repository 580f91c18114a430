"""The records that a transaction leaves in the write-ahead log, as pg_walinspect reads them."""

from __future__ import annotations

import re
from typing import Any

from psycopg2.extensions import connection

from qlib.lab.database.query import Table
from qlib.lab.xray.rights import extended

COLUMNS = ["record", "relation", "page", "bytes", "image", "xid", "detail"]

_RECORDS = """
select resource_manager || ' ' || record_type, block_ref, record_length, fpi_length,
  xid::text::bigint, description
from pg_get_wal_records_info(%s, %s)
"""
_RELATIONS = "select pg_relation_filenode(oid), oid::regclass::text from pg_class"
_BLOCK = re.compile(r"rel \d+/(\d+)/(\d+)(?: fork (\w+))? blk (\d+)")


def position(session: connection, function: str) -> str:
    """Return a place in the log."""
    with session, session.cursor() as done:
        done.execute(f"select {function}")
        [[found]] = done.fetchall()
        return str(found)


def own_transaction(session: connection) -> int | None:
    """Return the number of the open transaction, as records carry it; it has one when it wrote."""
    with session.cursor() as done:
        done.execute("select pg_current_xact_id_if_assigned()::xid::text::bigint")
        [[found]] = done.fetchall()
        return None if found is None else int(found)


def records(session: connection, begin: str) -> Table:
    """Return the records from `begin` up to now, whoever wrote them."""
    end = position(session, "pg_current_wal_flush_lsn()")
    return Table(_between(session, begin, end), columns=COLUMNS, dtype=object)


def of_transaction(found: Table, own: int | None) -> Table:
    """Return the records of a transaction, and those that carry no transaction's number.

    One of its subtransactions that was rolled back is not known to be its own.
    """
    commit = found[(found["xid"] == own) & found["record"].str.contains("COMMIT")]
    ours = {own}.union(*map(_subtransactions, commit["detail"]))
    return found[found["xid"].isna() | found["xid"].isin(ours)]


def _between(session: connection, begin: str, end: str) -> list[list[Any]]:
    with extended(session) as done:
        done.execute("select %s::pg_lsn >= %s::pg_lsn", (begin, end))
        if done.fetchall() == [(True,)]:  # it is an error to read nothing
            return []
        done.execute(_RELATIONS)
        names = dict(done.fetchall())
        done.execute(_RECORDS, (begin, end))
        return [
            [kind, *_block(blocks, names), size, image, _worker(kind, xid), detail]
            for kind, blocks, size, image, xid, detail in done
        ]


def _worker(kind: str, xid: int | None) -> int | None:
    """Return whose work a record is; nobody's is what who comes by clears away in passing."""
    return None if "PRUNE" in kind else xid or None


def _block(blocks: str | None, names: dict[int, str]) -> tuple[str | None, int | None]:
    """Return the relation and page that a record is about, if any; its first one."""
    found = _BLOCK.search(blocks or "")
    if not found:
        return None, None
    name = names.get(int(found[2]), f"relation {found[2]}")
    fork = found[3] or "main"
    return (name if fork == "main" else f"{name} ({fork})"), int(found[4])


def _subtransactions(commit: str) -> set[int]:
    """Return the numbers that a COMMIT names beside its own."""
    found = re.search(r"subxacts: ([\d ]+)", commit)
    return set(map(int, found[1].split())) if found else set()
