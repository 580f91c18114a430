"""An exception in words that a queue can keep."""

from __future__ import annotations

_LONGEST = 1000


def words(error: BaseException) -> str:
    """Return the exception's type and what it says, of a bounded length."""
    kind = type(error).__qualname__
    try:
        said = str(error)
    except (Exception, SystemExit):  # it may be anybody's, and must not end the thread that asks
        said = "it cannot say what"
    text = f"{kind}: {said}" if said else kind
    # Postgres keeps neither of these.
    kept = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    return kept if len(kept) <= _LONGEST else kept[: _LONGEST - 1] + "…"
