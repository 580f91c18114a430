"""Working copies of the chapters: for a learner to write in, outside of what git keeps.

    python -m qlib.lab.course.copies FOLDER

A copy has no outputs, so that a prediction comes before its answer. It holds a mark of what was
laid, hence it is known later whether somebody has written in it: running it changes nothing that
the mark counts. A copy that nobody has written in is renewed when there is a newer version of its
chapter; beside one that somebody has, the newer one is laid as NAME-newer.ipynb.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from secrets import token_hex

from qlib.lab.course.chapters import NOTEBOOKS, Notebook, read, source

_MARK = "queue-lab"


def lay(folder: Path, chapters: Path = NOTEBOOKS) -> list[str]:
    """Have a copy of the newest version of each chapter in a folder; return what is new there."""
    folder.mkdir(parents=True, exist_ok=True)
    laid = (_laid(path, folder) for path in sorted(chapters.glob("*.ipynb")))
    return [copy.name for copy in laid if copy]


def reset(folder: Path, names: list[str], chapters: Path = NOTEBOOKS) -> list[str]:
    """Put fresh copies in the place of these, by number or name; without names, of all.

    A copy that somebody has written in is kept as NAME-mine.ipynb. Returns what was done, in words.
    Raises LookupError when there is no such chapter; then nothing is done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [words for path in _chosen(names, chapters) for words in _reset(path, folder)]


def _laid(chapter: Path, folder: Path) -> Path | None:
    """Return where the copy was laid, or None when there is one of this version already."""
    fresh = _copied(read(chapter))
    for copy in _places(folder / chapter.name, "newer"):
        if _mark(copy) == fresh["metadata"][_MARK]:
            return None
        if not copy.exists() or _is_untouched(copy):
            _write(copy, fresh)
            return copy
    raise AssertionError  # there are always more places


def _reset(chapter: Path, folder: Path) -> Iterator[str]:
    copy = folder / chapter.name
    if copy.exists() and not _is_untouched(copy):
        kept = next(path for path in _places(copy, "mine") if path != copy and not path.exists())
        copy.rename(kept)
        yield f"{kept.name} is what you had"
    _write(copy, _copied(read(chapter)))
    yield f"{copy.name} is fresh"


def _chosen(names: list[str], chapters: Path) -> list[Path]:
    there = {path.stem: path for path in sorted(chapters.glob("*.ipynb"))}
    chosen = []
    for name in names or there:
        found = [path for stem, path in there.items() if _is_called(stem, name)]
        if not found:
            raise LookupError(f"there is no chapter {name!r}, but {', '.join(there)}")
        chosen += found
    return chosen


def _is_called(stem: str, name: str) -> bool:
    number = name.zfill(2) if name.isdecimal() else None
    return stem in (name, Path(name).stem) or stem.partition("_")[0] == number


def _places(copy: Path, word: str) -> Iterator[Path]:
    yield copy
    for number in count(1):
        yield copy.with_stem(f"{copy.stem}-{word}{'' if number == 1 else f'-{number}'}")


def _copied(chapter: Notebook) -> Notebook:
    cells = [
        cell | {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell
        for cell in chapter["cells"]
    ]
    return chapter | {"cells": cells, "metadata": chapter["metadata"] | {_MARK: _digest(chapter)}}


def _digest(notebook: Notebook) -> str:
    """Return the same for all that differ by outputs, by what is folded, or by empty cells.

    Running the last cell adds an empty one.
    """
    told = [
        [cell["cell_type"], source(cell), sorted(cell["metadata"].get("tags", ()))]
        for cell in notebook["cells"]
        if source(cell).strip()
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _is_untouched(copy: Path) -> bool:
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        return _digest(read(copy)) == _mark(copy)
    return False


def _mark(copy: Path) -> str | None:
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        return str(read(copy)["metadata"][_MARK])
    return None


def _write(copy: Path, notebook: Notebook) -> None:
    # Renamed, so that nobody finds half of it; of a name that no other start in this home has.
    new = copy.with_suffix(f".{token_hex(4)}.new")
    new.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(copy)


def main() -> int:
    """Lay the copies; return the exit code."""
    parser = argparse.ArgumentParser("python -m qlib.lab.course.copies", description=__doc__)
    parser.add_argument("folder", type=Path)
    for name in lay(folder := parser.parse_args().folder):
        print(f"{folder / name} is new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
