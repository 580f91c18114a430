"""The single values that go over the wire, each with the rule that people are told when one does not fit.

The rules are for refusals; `/openapi.json` is made of the types, and has none of them.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

LARGEST = 2**63 - 1
MAX_LIMIT = 10_000

NAME = "1 to 200 of A-Z a-z 0-9 . _ -"


def rule(text: str) -> Meta:
    """Return what people are told of a type that does not fit; it is no part of `/openapi.json`."""
    return Meta(extra={"rule": text})


_FROM_0 = rule(f"an integer from 0 to {LARGEST}")

Position = Annotated[
    int, Meta(ge=0, le=LARGEST, description="the last offset already done"), _FROM_0
]
Offset = Annotated[
    int, Meta(ge=1, le=LARGEST, description="1, 2, 3 …"), rule(f"an integer from 1 to {LARGEST}")
]
Epoch = Annotated[
    int,
    Meta(ge=0, le=LARGEST, description="random at first, raised by every reset and seek"),
    _FROM_0,
]
Count = Annotated[int, Meta(ge=0)]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,200}$", description="1 to 200 of A-Z a-z 0-9 . _ -; not . or .."
    ),
    rule(NAME),
]
Description = Annotated[str, Meta(max_length=1000), rule("a text of at most 1,000 characters")]
Timestamp = Annotated[
    datetime,
    Meta(tz=True, description="RFC 3339, with a time zone"),
    rule("a time with its zone, as in 2024-02-29T12:00:00Z"),
]
Limit = Annotated[
    int,
    Meta(ge=1, description=f"how many at the most; above {MAX_LIMIT} it is {MAX_LIMIT}"),
    rule("an integer from 1 on"),
]
_OBJECT = {"type": "object", "additionalProperties": True}  # or a made client would read no member
Object = Annotated[dict[str, Any], Meta(extra_json_schema=_OBJECT)]
Headers = Annotated[msgspec.Raw, Meta(extra_json_schema={"anyOf": [_OBJECT, {"type": "null"}]})]
Offsets = Annotated[
    list[Annotated[int, Meta(ge=1, le=LARGEST)]],
    Meta(min_length=1, max_length=MAX_LIMIT),
    rule("an array of 1 to 10,000 offsets, each an integer from 1 on"),
]
Worker = Annotated[
    str,
    Meta(max_length=200, description="a label for people"),
    rule("a text of at most 200 characters"),
]
LeaseSeconds = Annotated[
    float, Meta(ge=0.001, le=43_200), rule("a number of seconds from 0.001 to 43,200")
]
Delay = Annotated[float, Meta(ge=0, le=604_800), rule("a number of seconds from 0 to 604,800")]
Words = Annotated[
    str,
    Meta(max_length=10_000, description="why, in the worker's words"),
    rule("a text of at most 10,000 characters"),
]
MaxAttempts = Annotated[
    int,
    Meta(ge=1, le=10_000, description="how often a message is leased before it is a dead letter"),
    rule("an integer from 1 to 10,000"),
]
Attempt = Annotated[int, Meta(ge=1, description="how often it was leased in this epoch")]
Producer = Annotated[str, Meta(min_length=1, max_length=200), rule("a text of 1 to 200 characters")]
Number = Annotated[int, Meta(ge=0, le=LARGEST), _FROM_0]
Wait = Annotated[
    float, Meta(ge=0, le=60, description="seconds"), rule("a number of seconds from 0 to 60")
]
