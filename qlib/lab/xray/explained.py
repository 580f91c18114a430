"""The statements that a session runs, also inside functions, as auto_explain tells them."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg2.extensions import connection

from qlib.lab.database.query import Table

Plan = dict[str, Any]

SETTINGS = {
    "log_min_duration": "0",
    "log_nested_statements": "on",
    "log_analyze": "on",
    "log_timing": "off",
    "log_buffers": "on",
    "log_wal": "on",
    "log_verbose": "on",
    "log_format": "json",
}
# INFO goes to the client, whatever client_min_messages says, and not to the server's log: the plans
# hold payloads.
_TOLD = re.compile(r"\AINFO:  duration: [0-9.]+ ms  plan:\n(.*)\Z", re.DOTALL)
_LONGEST = 72  # characters of a statement in a table
_CALL = re.compile(r'\bqueue\."?(\w+)"?\(')


@contextmanager
def watching(session: connection) -> Iterator[list[Plan]]:
    """Have this very session told its plans; when it ends without an error, the list has them."""
    found: list[Plan] = []
    told: deque[str] = deque()
    session.notices = told  # type: ignore[assignment]  # psycopg2 keeps 50 in a list, and all in what only has append
    with session.cursor() as done:
        done.execute("set local auto_explain.log_level = info; set local lc_messages = 'C'")
        for name, value in SETTINGS.items():
            done.execute(f"set local auto_explain.{name} = {value}")
        yield found
        done.execute("set local auto_explain.log_min_duration = -1")
    found += [json.loads(plan[1]) for plan in map(_TOLD.match, told) if plan]


def statements(plans: list[Plan]) -> Table:
    """Return a table of them, in the order in which they ended: who calls comes after the called."""
    columns = ["statement", "plan", "rows", "buffers", "wal_records", "wal_bytes", "inlined"]
    return Table([row(plan) for plan in plans], columns=columns)


def query(plan: Plan) -> str:
    """Return the text of a statement in one line."""
    return " ".join(str(plan["Query Text"]).split())


def inlined(plan: Plan) -> list[str]:
    """Return the functions of the queue that a statement names and its plan does not."""
    planned = set(_CALL.findall(json.dumps(plan["Plan"]).replace('\\"', '"')))
    return sorted({*_CALL.findall(plan["Query Text"])} - planned)


def nodes(node: Plan, depth: int = 0) -> Iterator[tuple[int, str]]:
    """Yield depth and words of each node of a plan, from the top."""
    yield depth, _words(node)
    for child in node.get("Plans", ()):
        yield from nodes(child, depth + 1)


def in_short(text: str, longest: int = _LONGEST) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def row(plan: Plan) -> list[Any]:
    """Return a row of the table."""
    top = plan["Plan"]
    return [
        in_short(query(plan)),
        _line(top),
        _rows(top),
        top["Shared Hit Blocks"] + top["Shared Read Blocks"],
        top["WAL Records"],
        top["WAL Bytes"],
        ", ".join(inlined(plan)),
    ]


def _rows(node: Plan) -> int:
    """Return how many rows a statement returned, or wrote when it returned none."""
    if node["Node Type"] == "ModifyTable" and not node["Actual Rows"]:
        return _rows(node["Plans"][0])
    return int(node["Actual Rows"] * node["Actual Loops"])


def _line(node: Plan) -> str:
    below = [_line(child) for child in node.get("Plans", ())]
    if not below:
        return _words(node)
    return f"{_words(node)} ← " + (below[0] if len(below) == 1 else f"({', '.join(below)})")


def _words(node: Plan) -> str:
    kind = str(node.get("Operation", node["Node Type"]))
    if node.get("Scan Direction") == "Backward":
        kind += " Backward"
    on = [node[name] for name in ("Index Name", "Relation Name", "Function Name") if name in node]
    return " on ".join([kind, *on[:1]])
