"""Sentences for people about a request that is not one of ours: what, by which rule, and what came.

The rules stand beside the types, in `server/http/fields.py` and `server/http/schemas.py`; where in the request it was,
msgspec's own errors say.
"""

import re
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from server.http.fields import NAME

_PLACE = re.compile(r" - at `\$\.?([^`]*)`\Z")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_PART = re.compile(r"[\w-]+")  # a header's name has hyphens
_SUBJECTS = {
    "topic": "a topic's name",
    "subscriber": "a subscriber's name",
    "lease": "a lease's id",
}
_LONGEST = 60
_NOTHING = object()

Kind = type[msgspec.Struct]


def of_host(host: str) -> str:
    """Say that the server was called by a name that is not its own."""
    return f"this server does not answer to {_shown(host)}: start it with --allow-host if it should"


def of_name(part: str, name: str) -> str:
    """Say that a topic or subscriber cannot have a name."""
    neither = " and neither . nor .." if name in (".", "..") else ""
    return f"{_SUBJECTS[part]} is {NAME}{neither}, not {_shown(name)}"


def of_body(error: msgspec.ValidationError, body: bytes, kind: Kind) -> str:
    """Say what is wrong with a body."""
    text = str(error)
    found = _PLACE.search(text)
    place = found[1] if found else ""
    if not place and (unknown := _UNKNOWN.match(text)):
        return of_unknown("member", unknown[1], kind)
    if not place and (missing := _MISSING.match(text)):
        return f"{missing[1]} is missing: it is {_rule_of(kind, missing[1])}"
    return of_value(kind, place, _value_at(body, place))


def of_query(error: msgspec.ValidationError, values: Mapping[str, str], kind: Kind) -> str:
    """Say what is wrong with a query."""
    found = _PLACE.search(str(error))
    name = found[1] if found else ""
    return of_value(kind, name, values.get(name, _NOTHING))


def of_unknown(what: str, name: str, kind: Kind | None) -> str:
    """Say that there is no member or parameter of this name, and which one may have been meant."""
    known = kind.__struct_fields__ if kind else ()
    said = f"there is no {what} {_shown(name)} here"
    for meant in get_close_matches(name[:_LONGEST], known, 1):
        return f"{said}: did you mean {meant}, which is {_rule_of(kind, meant)}?"
    return f"{said}; there are {', '.join(known)}" if known else said


def of_value(kind: Kind, place: str, value: object) -> str:
    """Say that a value does not keep to the rule of its place: a member's name, or a path to it."""
    member = _PART.match(place)
    subject = _SUBJECTS.get(member[0], member[0]) if member else "the body"
    rule = f"{subject} is {_rule_of(kind, place)}"
    if value is _NOTHING:
        return rule
    whole = member is None or member[0] == place
    return f"{rule}, not {_shown(value)}" if whole else f"{rule}, and {place} is {_shown(value)}"


def of_json(error: Exception, body: bytes) -> str:
    """Say why a body is not JSON."""
    if not body.strip():
        return "the body is empty: send a JSON object"
    if isinstance(error, UnicodeDecodeError):
        return f"the body is not UTF-8, from byte {error.start} on"
    why = str(error).removeprefix("JSON is malformed: ")
    return f"the body is not JSON: {'it ends too early' if 'truncated' in why else why}"


def _rule_of(kind: Kind | None, place: str) -> str:
    hint: Any = kind
    for part in _PART.findall(place):
        hints = _members(hint)
        if part not in hints:  # a place in a list, or inside of one of several types
            break
        hint = hints[part]
    return _told(hint) or "a JSON object"


def _members(hint: Any) -> dict[str, Any]:
    if not (isinstance(hint, type) and issubclass(hint, msgspec.Struct)):
        return {}
    types = typing.get_type_hints(hint, include_extras=True)
    return {one.encode_name: types[one.name] for one in msgspec.structs.fields(hint)}


def _told(hint: Any) -> str | None:
    for meta in getattr(hint, "__metadata__", ()):
        if meta.extra:
            return str(meta.extra["rule"])
    return next(filter(None, map(_told, typing.get_args(hint))), None)


def _value_at(body: bytes, place: str) -> object:
    try:
        value = msgspec.json.decode(body)
        for part in _PART.findall(place):
            value = value[int(part) if isinstance(value, list) else part]
        return value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return _NOTHING  # it cannot be told, and need not: the rule is


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
