"""The chapters: the notebooks of the repository, and what the rest of the course reads in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qlib.lab.stack.guarded import ROOT

Notebook = dict[str, Any]
Cell = dict[str, Any]

NOTEBOOKS = ROOT / "notebooks"


def chapters(folder: Path = NOTEBOOKS) -> list[Path]:
    """Return those with a number, in its order; there may be gaps."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def read(path: Path) -> Notebook:
    """Return a notebook as it is in its file; raises OSError or ValueError."""
    found: Notebook = json.loads(path.read_text(encoding="utf-8"))
    return found


def source(cell: Cell) -> str:
    """Return what is written in a cell."""
    return "".join(cell["source"])


def has_tag(cell: Cell, tag: str) -> bool:
    """Whether a cell bears a tag."""
    return tag in cell.get("metadata", {}).get("tags", ())


def title(path: Path) -> str:
    """Return a chapter's first heading."""
    lines = (line for cell in read(path)["cells"] for line in source(cell).splitlines())
    return next(line.lstrip("# ") for line in lines if line.startswith("# "))
