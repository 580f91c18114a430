"""Request bodies: taken apart strictly.

Payloads are checked, but not rebuilt: their text goes to the engine as it came.
"""

import json
import re
from functools import cache
from itertools import repeat
from typing import Any, TypeVar

import msgspec

from server.http.errors import Problem
from server.http.sentences import of_body, of_json

MAX_MESSAGE = 1024 * 1024
MAX_DEPTH = 64
_SMALL = 2 * MAX_DEPTH  # bytes, in which nothing is nested deeper

T = TypeVar("T", bound=msgspec.Struct)

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")  # a member's name may be written with these
_PAYLOADS = re.compile(rb'"payloads"\s*:\s*')
_ALIKE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SHAPE = bytes.maketrans(b"123456789E", b"000000000e")
_EXPONENT = re.compile(rb"0e\+?000")  # in that shape: 100 and more
_DIGITS = b"0" * 200


def decode(body: bytes, kind: type[T]) -> T:
    """Take a JSON body apart. Raises Problem (400 not JSON, 422 not what is expected)."""
    try:
        decoded = msgspec.json.decode(body, type=kind)
        body.decode()
        if _may_repeat_a_member(_without_payloads(body, decoded), kind):
            _refuse_repeated_members(body)
    except msgspec.ValidationError as error:
        raise Problem("invalid_request", of_body(error, body, kind)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem("invalid_json", of_json(error, body)) from None
    except RecursionError:
        raise Problem("invalid_message", f"JSON is nested {MAX_DEPTH} deep at most") from None
    return decoded


def check_messages(
    payloads: list[msgspec.Raw], keys: list[str | None] | None, headers: list[msgspec.Raw] | None
) -> None:
    """Check every message's size and depth. Raises Problem (413, 422), naming the message by its place."""
    if keys is None and headers is None and max(map(len, payloads)) <= _SMALL:
        return
    rows = zip(payloads, keys or repeat(None), headers or repeat(b""), strict=False)
    for place, (payload, key, header) in enumerate(rows):
        size = len(payload) + len((key or "").encode()) + len(header)
        if size > MAX_MESSAGE:
            raise Problem(
                "message_too_large",
                f"message {place} has {size} bytes; a message has at most {MAX_MESSAGE}",
            )
        if size > _SMALL and (_too_deep(bytes(payload)) or _too_deep(bytes(header))):
            raise Problem("invalid_message", f"message {place} is nested deeper than {MAX_DEPTH}")


def array(texts: list[msgspec.Raw]) -> str:
    """Return the JSON array of these values, each as it came.

    Raises Problem (422) when one holds a number that no reader takes: JSON has no largest number, but
    its readers do, and 1e400 would come back as infinity, or not at all.
    """
    joined = b"[" + b",".join(texts) + b"]"
    if _may_hold_a_large_number(joined):
        for place, text in enumerate(texts):
            try:
                msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                why = "holds a number that is too large for its readers"
                if "out of range" not in str(error):
                    why = f"cannot be read: {error}"
                raise Problem("invalid_message", f"message {place} {why}") from None
    return joined.decode()


def _may_hold_a_large_number(text: bytes) -> bool:
    # from 1e308 on there are at least 200 digits before the point, or three in the exponent; to take every value
    # apart to see it would take several times as long
    shape = text.translate(_SHAPE)
    return _DIGITS in shape or _EXPONENT.search(shape) is not None


def _too_deep(text: bytes) -> bool:
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", text).translate(_ALIKE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):  # each round takes the innermost ones away
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _without_payloads(body: bytes, decoded: msgspec.Struct) -> bytes:
    # what follows a member's name is one whole value: if it is the payloads, none of our own names is in it
    value = b"[" + b",".join(getattr(decoded, "payloads", ())) + b"]"
    name = _PAYLOADS.search(body)
    if name and body.startswith(value, name.end()):
        return body[: name.end()] + body[name.end() + len(value) :]
    return body


def _may_repeat_a_member(body: bytes, kind: type[msgspec.Struct]) -> bool:
    escaped = b"\\" in body and _ESCAPED_LETTER.search(body)
    return bool(escaped) or any(body.count(name) > 1 for name in _quoted(kind))


@cache
def _quoted(kind: type[msgspec.Struct]) -> list[bytes]:
    return [f'"{name}"'.encode() for name in kind.__struct_fields__]


def _refuse_repeated_members(body: bytes) -> None:
    outermost: list[str] = []

    def remember(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = [name for name, _ in pairs]  # the outermost object is closed last

    # numbers stay text: Python takes no integer of more than 4,300 digits
    json.loads(body, object_pairs_hook=remember, parse_int=str)
    if len(set(outermost)) < len(outermost):
        raise Problem("invalid_request", "a member is given twice")
