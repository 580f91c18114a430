"""`python -m qlib.lab.course.contents`: links between the chapters, and the lists of them.

All are made of the chapters' files: their numbers, in which there may be gaps, and their titles.
The links stand at the end of each chapter, the lists between two marks in README.md and in
notebooks/README.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nbformat

from qlib.lab.course.chapters import NOTEBOOKS, chapters, title

_BEGIN, _END = "<!-- chapters -->\n", "<!-- /chapters -->"
_LINKS = re.compile(r"\n*^\[(?:←.*|.*→\]\(.*\))$\s*\Z", re.MULTILINE)


def outdated(notebooks: Path = NOTEBOOKS) -> dict[Path, str]:
    """Return the files that have not the links or the list that they should, with their new text."""
    paths = chapters(notebooks)
    places = zip(paths, [None, *paths], [*paths[1:], None], strict=False)
    new = {path: _linked(path, before, after) for path, before, after in places}
    for folder, prefix in ((notebooks, ""), (notebooks.parent, f"{notebooks.name}/")):
        new[folder / "README.md"] = _listed(folder / "README.md", paths, prefix)
    return {path: text for path, text in new.items() if path.read_text(encoding="utf-8") != text}


def update() -> None:
    """Write what is outdated, and tell which files that are."""
    for path, text in outdated().items():
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(NOTEBOOKS.parent)}: new links", flush=True)


def _linked(path: Path, before: Path | None, after: Path | None) -> str:
    """Return a chapter's text with the links as the last line of its last cell."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    links = [f"[← {_name(before)}]({before.name})"] if before else []
    links += [f"[{_name(after)} →]({after.name})"] if after else []
    last = notebook.cells[-1]
    prose = _LINKS.sub("", last.source)
    if last.source != (wanted := "\n\n".join([prose, *([" · ".join(links)] if links else [])])):
        last.source = wanted
        return str(nbformat.writes(notebook)) + "\n"  # type: ignore[no-untyped-call]
    return path.read_text(encoding="utf-8")


def _listed(readme: Path, paths: list[Path], prefix: str) -> str:
    text = readme.read_text(encoding="utf-8")
    head, begin, rest = text.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not end:
        raise ValueError(f"{readme} has no place for the list: {_BEGIN}{_END}")
    entries = " ·\n".join(f"[{_name(path)}]({prefix}{path.name})" for path in paths)
    return f"{head}{begin}{entries}\n{end}{tail}"


def _name(path: Path) -> str:
    return title(path).replace(" · ", " ", 1)


def main() -> int:
    """Write what is outdated; return the exit code."""
    argparse.ArgumentParser("python -m qlib.lab.course.contents", description=__doc__).parse_args()
    update()
    return 0


if __name__ == "__main__":
    sys.exit(main())
