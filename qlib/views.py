"""How values look in a notebook: a short repr, and tables in HTML.

They show neither a time nor the lab's mark, so that a notebook's output is the same in every run;
but for the table of a batch, which tells when its messages were published.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from html import escape
from typing import Any, ClassVar, TypeVar

_LONGEST_VALUE = 80
_LINES_SHOWN = 60  # of a listing


class Shown:
    """One look for every value: the fields that are worth reading, cut to a readable length."""

    __slots__ = ()
    _untold: ClassVar[frozenset[str]] = frozenset()
    _noun: ClassVar[str] = ""

    @classmethod
    def _told(cls) -> list[str]:
        return [f.name for f in fields(cls) if f.name not in cls._untold]  # type: ignore[arg-type]

    def _facts(self) -> list[tuple[str, str]]:
        named = ((name, self._shown(name)) for name in self._told())
        # No key and no headers are nothing to show; a null payload is.
        return [(name, _short(it)) for name, it in named if it is not None or name == "payload"]

    def _shown(self, name: str) -> Any:
        return getattr(self, name)

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={text}" for name, text in self._facts())
        return f"{type(self).__name__}({facts})"

    def _repr_html_(self) -> str:
        return _html(type(self).__name__, *zip(*self._facts(), strict=True))


Kind = TypeVar("Kind", bound=Shown)


class Listing(list[Kind]):
    """A list of values of one kind, which a notebook shows as a table."""

    def __init__(self, kind: type[Kind], values: Iterable[Kind]) -> None:
        """Hold values of one kind, if any."""
        super().__init__(values)
        self._kind = kind

    def _repr_html_(self) -> str:
        noun = self._kind._noun or self._kind.__name__.lower()
        caption = f"{len(self)} {noun}{'s' * (len(self) != 1)}"
        return table(caption, self._kind._told(), self, _LINES_SHOWN)


def table(caption: str, names: list[str], values: Sequence[Shown], most: int) -> str:
    """Return values as HTML: a row each with the fields of these names, at most so many rows."""
    rows = [[_cell(name, value._shown(name)) for name in names] for value in values[:most]]
    if len(values) > most:
        rows.append(["…", *[""] * (len(names) - 2), f"{len(values) - most} more"])
    return _html(caption, names, *rows)


def _short(value: object) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _cell(name: str, value: object) -> str:
    if name == "payload":  # any JSON: the text "1" is not the number
        return _short(value)
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC).replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}"[:-3] + "Z"
    return "" if value is None else _cut(value if isinstance(value, str) else repr(value))


def _html(caption: str, heading: Iterable[str], *rows: Iterable[str]) -> str:
    def line(tag: str, cells: Iterable[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><caption>{escape(caption)}</caption>{line('th', heading)}{body}</table>"
