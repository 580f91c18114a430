"""Functions as a notebook lists them: whole, or the lines that matter and the rest folded."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from qlib.lab.database.query import sql

_AROUND = 1  # lines shown before and after one that is marked


class Source(str):
    """The whole text of a function. A notebook shows it in colours, or of it what is marked."""

    language: ClassVar = "sql"
    _comment: ClassVar = "--"
    _marked: tuple[int, ...] = ()  # the numbers of the lines, from 0

    def marked(self, marks: str | Iterable[str]) -> Source:
        """Return the same text with the lines marked that hold one of `marks`.

        Raises ValueError when one is in no line.
        """
        lines, marks = self._lines(), [marks] if isinstance(marks, str) else list(marks)
        for mark in marks:
            if not any(mark in line for line in lines):
                raise ValueError(f"no line of this listing holds {mark!r}: {lines[0]}")
        listing = type(self)(self)
        listing._marked = tuple(
            n for n, line in enumerate(lines) if any(mark in line for mark in marks)
        )
        return listing

    def __repr__(self) -> str:
        """Return what is shown first: with marks, their lines and a count of the others."""
        return "\n".join(self._excerpt()) if self._marked else str(self)

    def _repr_markdown_(self) -> str:
        whole = self._fenced(self._with_marks())
        if not self._marked:
            return whole
        summary = f"<summary>All {len(self._lines())} lines</summary>"
        return f"{self._fenced(self._excerpt())}\n\n<details>{summary}\n\n{whole}\n\n</details>"

    def _lines(self) -> list[str]:
        return self.split("\n")

    def _fenced(self, lines: Iterable[str]) -> str:
        return "\n".join([f"```{self.language}", *lines, "```"])

    def _with_marks(self) -> list[str]:
        """Return the lines. A mark is a comment, so that the text stays what it is, in colours too."""
        return [
            f"{line}  {self._comment} ◀━━" if n in self._marked else line
            for n, line in enumerate(self._lines())
        ]

    def _excerpt(self) -> Iterator[str]:
        lines = self._with_marks()
        near = {n + step for n in self._marked for step in range(-_AROUND, _AROUND + 1)}
        shown = sorted(({0} | near) & set(range(len(lines))))
        for n, following in zip(shown, [*shown[1:], len(lines)], strict=True):
            yield lines[n]
            left_out = following - n - 1
            if left_out == 1:  # to say so would take as much room
                yield lines[n + 1]
            elif left_out:
                indent = " " * (len(lines[n + 1]) - len(lines[n + 1].lstrip()))
                yield f"{indent}{self._comment} ⋮ {left_out} lines"


class PythonSource(Source):
    """Python text that a notebook shows in colours."""

    language = "python"
    _comment = "#"


def source(function: str | Callable[..., object], mark: str | Iterable[str] = ()) -> Source:
    """Return the SQL of a function of the queue as the database holds it at this moment.

    The name may do without its schema `queue`; functions that share a name come one after the
    other. Of a function, method or class of Python, given itself and not by its name, the source is
    returned. It is always the whole text; but with `mark`, a text or several, a notebook shows the
    lines that hold one of them, marked by ◀, with the rest folded. Raises LookupError when there is
    no such function, ValueError when no line holds a mark, and whatever `sql` raises.
    """
    listing = _of_queue(function) if isinstance(function, str) else _of_python(function)
    return listing.marked(mark)


def _of_queue(function: str) -> Source:
    name = function.removeprefix("queue.")
    found = sql(
        "select pg_get_functiondef(oid) as text from pg_proc where proname = %s"
        " and pronamespace = 'queue'::regnamespace order by pronargs, oid",
        name,
    )
    if found.empty:
        raise LookupError(f"there is no function queue.{name}")
    return Source("\n\n".join(text.strip() for text in found["text"]))


def _of_python(function: Callable[..., object]) -> Source:
    try:
        return PythonSource(textwrap.dedent(inspect.getsource(function)).strip())
    except (OSError, TypeError) as error:
        raise LookupError(f"the source of {function!r} is not to be had") from error
