"""Request bodies: read whole or refused, then taken apart strictly.

Payloads are checked, but not rebuilt: their text goes to the engine as it came.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any, TypeVar

import msgspec

from server.http.errors import Problem
from server.http.sentences import of_body, of_json

MAX_BODY = 16 * 1024 * 1024
MAX_MESSAGE = 1024 * 1024
MAX_DEPTH = 64

T = TypeVar("T", bound=msgspec.Struct)

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")  # a member's name may be written with these
_PAYLOADS = re.compile(rb'"payloads"\s*:\s*')
_SHAPE = bytes.maketrans(b"123456789E", b"000000000e")
_EXPONENT = re.compile(rb"0e\+?000")  # in that shape: 100 and more
_DIGITS = b"0" * 200


class Gate:
    """Bounds the bodies that are read at the same time, in number and in bytes: a slow sender holds a thread."""

    def __init__(self, bodies: int, size: int = 512 * 1024 * 1024) -> None:
        """Let in so many bodies of so many bytes together."""
        self._lock = threading.Lock()
        self._bodies = bodies
        self._size = size

    @contextmanager
    def admitted(self, size: int) -> Iterator[None]:
        """Hold a place for a body of that size. Raises Problem (503, outcome none) when there is none."""
        with self._lock:
            if self._bodies < 1 or self._size < size:
                raise Problem("unavailable", "too many requests are being received")
            self._bodies -= 1
            self._size -= size
        try:
            yield
        finally:
            with self._lock:
                self._bodies += 1
                self._size += size


def read(environ: dict[str, Any], gate: Gate) -> bytes:
    """Return the whole body.

    Raises Problem: 411 without a length (a chunked body that is cut cannot be told from one that has
    ended), 413 when it is too large, 400 when fewer bytes came than were announced.
    """
    length = environ.get("CONTENT_LENGTH", "")
    if not (length.isascii() and length.isdigit()) or "HTTP_TRANSFER_ENCODING" in environ:
        raise Problem("length_required", "send the body with a Content-Length, not in chunks")
    size = int(length[:20])
    if size > MAX_BODY:
        raise Problem("body_too_large", f"a body has at most {MAX_BODY} bytes; this one has {size}")
    with gate.admitted(size):
        body: bytes = environ["wsgi.input"].read(size)
    if len(body) != size:
        raise Problem("invalid_json", f"{size} bytes were announced and {len(body)} came")
    return body


def decode(body: bytes, kind: type[T]) -> T:
    """Take a JSON body apart. Raises Problem (400 not JSON, 422 not what is expected)."""
    try:
        decoded = msgspec.json.decode(body, type=kind)
        body.decode()
        if _may_repeat_a_member(_without_payloads(body, decoded), kind.__struct_fields__):
            _refuse_repeated_members(body)
    except msgspec.ValidationError as error:
        raise Problem("invalid_request", of_body(error, body, kind)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem("invalid_json", of_json(error, body)) from None
    except RecursionError:
        raise Problem("invalid_message", f"JSON is nested {MAX_DEPTH} deep at most") from None
    return decoded


def check_messages(
    payloads: list[bytes], keys: list[str | None] | None, headers: list[bytes] | None
) -> None:
    """Check every message's size and depth. Raises Problem (413, 422), naming the message by its place."""
    rows = zip(payloads, keys or repeat(None), headers or repeat(b""), strict=False)
    for place, (payload, key, header) in enumerate(rows):
        size = len(payload) + len((key or "").encode()) + len(header)
        if size > MAX_MESSAGE:
            raise Problem(
                "message_too_large",
                f"message {place} has {size} bytes; a message has at most {MAX_MESSAGE}",
            )
        if size > 2 * MAX_DEPTH and (_too_deep(payload) or _too_deep(header)):
            raise Problem("invalid_message", f"message {place} is nested deeper than {MAX_DEPTH}")


def array(texts: list[bytes]) -> str:
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
    return text.count(b"[") + text.count(b"{") > MAX_DEPTH and _depth(text) > MAX_DEPTH


def _depth(text: bytes) -> int:
    deepest = depth = 0
    for byte in _STRING.sub(b"", text):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _without_payloads(body: bytes, decoded: msgspec.Struct) -> bytes:
    # what follows a member's name is one whole value: if it is the payloads, none of our own names is in it
    value = b"[" + b",".join(getattr(decoded, "payloads", ())) + b"]"
    name = _PAYLOADS.search(body)
    if name and body.startswith(value, name.end()):
        return body[: name.end()] + body[name.end() + len(value) :]
    return body


def _may_repeat_a_member(body: bytes, names: tuple[str, ...]) -> bool:
    escaped = b"\\" in body and _ESCAPED_LETTER.search(body)
    return bool(escaped) or any(body.count(f'"{name}"'.encode()) > 1 for name in names)


def _refuse_repeated_members(body: bytes) -> None:
    outermost: list[str] = []

    def remember(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = [name for name, _ in pairs]  # the outermost object is closed last

    # numbers stay text: Python takes no integer of more than 4,300 digits
    json.loads(body, object_pairs_hook=remember, parse_int=str)
    if len(set(outermost)) < len(outermost):
        raise Problem("invalid_request", "a member is given twice")
