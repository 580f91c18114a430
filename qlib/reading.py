"""The JSON of answers, read straight into types; what msgspec cannot read, `json` may."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its zone."""


class Kept(msgspec.Struct):
    """A message as an answer has it: whose it is, the answer tells once for all."""

    offset: int
    published_at: Moment
    payload: Any
    key: str | None = None
    headers: dict[str, Any] | None = None


class KeptOut(Kept, kw_only=True):
    """A message as the answer to a lease has it."""

    attempt: int


class Leased(msgspec.Struct):
    """The answer to a lease; `lease` and `expires_at` are None when there is nothing.

    `unreadable` is the offset of a message that cannot be read, and why: then `messages` are those
    before it.
    """

    topic: str
    subscriber: str
    lease: str | None
    expires_at: Moment | None
    messages: list[KeptOut]
    unreadable: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        """Refuse half a lease, and messages without one."""
        if bool(self.lease) != bool(self.expires_at) or (self.messages and not self.lease):
            raise ValueError("a lease has an id and an end")


class Extended(msgspec.Struct):
    """The answer to an extension."""

    expires_at: Moment


class Redriven(msgspec.Struct):
    """How many dead letters were redriven."""

    redriven: int


class Removed(msgspec.Struct):
    """How many dead letters were removed."""

    removed: int


class Found(msgspec.Struct):
    """The answer to a fetch; that to a browse tells of no subscriber."""

    topic: str
    head: int
    messages: list[Kept]
    subscriber: str | None = None
    position: int | None = None
    epoch: int | None = None

    def __post_init__(self) -> None:
        """Refuse half a subscriber."""
        told = {it is not None for it in (self.subscriber, self.position, self.epoch)}
        if len(told) > 1:
            raise ValueError("a subscriber has a name, a position and an epoch")


class Stored(msgspec.Struct):
    """The answer to a publish."""

    first_offset: int
    last_offset: int


class Moved(msgspec.Struct):
    """The answer to a plain ack."""

    position: int


def read(kind: type[T], content: bytes) -> T:
    """Return what this JSON says; ValueError or RecursionError when it is not of this kind."""
    try:
        found: T = _decoder(kind).decode(content)
        return found
    except (msgspec.MsgspecError, RecursionError):
        # `json` takes NaN, a float beyond all and half a surrogate; and it says best what is wrong.
        return made(kind, json.loads(content.decode()))


def made(kind: type[T], value: Any) -> T:
    """Return what the value of some JSON says; ValueError when it is not of this kind."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


@cache
def _decoder(kind: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
