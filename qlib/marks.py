"""The mark of topics that `qlib.lab` may throw away, at the end of their description.

It is in the queue, so any process of the lab knows these topics, and whoever looks at them can see
whose they are. The views of a `Topic` leave it out: a notebook shows the description as it was given.
"""

from __future__ import annotations

MARK = "(made by qlib.lab)"

disposable: set[tuple[str, str]] = set()
"""URL and name of the topics that the lab keeps fresh: those are marked when they are created here."""


def marked(description: str | None) -> str:
    """Return a description with the mark."""
    return f"{description} {MARK}" if description else MARK


def unmarked(description: str | None) -> str | None:
    """Return a description without the mark; None when nothing is left of it."""
    return (description or "").removesuffix(MARK).removesuffix(" ") or None


def is_marked(description: str | None) -> bool:
    """Say whether a topic with this description may be thrown away."""
    return (description or "").endswith(MARK)
