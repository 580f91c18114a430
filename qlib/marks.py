"""The mark of topics that `qlib.lab` may throw away, at the end of their description.

It is in the queue, so any process of the lab knows these topics, and whoever looks at them can see
which kernel has made them. The views of a `Topic` leave it out: a notebook shows the description as
it was given.
"""

from __future__ import annotations

import re
import secrets

MARK = f"(made by qlib.lab, kernel {secrets.token_hex(4)})"
"""That of this process, and of those that it forks."""

_MARKS = re.compile(r"(^| )\(made by qlib\.lab(, kernel [0-9a-f]{8})?\)\Z")

disposable: set[tuple[str, str]] = set()
"""URL and name of the topics that the lab keeps fresh: those are marked when they are created here."""


def marked(description: str | None) -> str:
    """Return a description with the mark."""
    return f"{description} {MARK}" if description else MARK


def unmarked(description: str | None) -> str | None:
    """Return a description without the mark of any kernel; None when nothing is left of it."""
    return _MARKS.sub("", description or "") or None


def is_marked(description: str | None) -> bool:
    """Say whether a kernel has made the topic of this description, to be thrown away."""
    return bool(_MARKS.search(description or ""))
