"""What an engine raises, and nothing else: whoever calls one needs to know of no database.

EngineError          surely not done: `code` says why
└── Unavailable      the engine cannot now; `outcome` says whether it may have been done
    └── Busy         somebody has held for too long what this call needs; others may need something else
"""

from typing import Any, Literal

Code = Literal[
    "topic_not_found",
    "subscriber_not_found",
    "topic_exists",
    "offset_out_of_range",
    "stale_epoch",
    "sequence_conflict",
    "lease_expired",
    "key_order",
    "leases_out",
    "invalid_name",
    "invalid_message",
    "invalid_request",
    "internal",
    "unavailable",
    "disk_full",
]
Outcome = Literal["none", "unknown"]


class EngineError(Exception):
    """It was not done: `code` names the reason, `detail` tells it in a sentence, `members` are data for the caller."""

    outcome: Outcome = "none"

    def __init__(self, code: Code, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.members = members


class Unavailable(EngineError):
    """The engine is busy, full or gone: the same may work later, for this call and all others like it."""

    def __init__(
        self,
        detail: str,
        *,
        code: Literal["unavailable", "disk_full"] = "unavailable",
        outcome: Outcome = "none",
    ) -> None:
        super().__init__(code, detail)
        self.outcome = outcome


class Busy(Unavailable):
    """Somebody has held for too long what this call needs: of several in one transaction, one alone may need it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
