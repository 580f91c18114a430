"""Request bodies: read whole or refused, then taken apart strictly.

Payloads are checked, but not rebuilt: their text goes to the engine as it came.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from server.errors import Problem

MAX_BODY = 16 * 1024 * 1024
MAX_MESSAGE = 1024 * 1024
MAX_DEPTH = 64

T = TypeVar("T", bound=msgspec.Struct)

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")  # a member's name may be written with these


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


def sentence(error: msgspec.ValidationError) -> str:
    """Say what a type error is about, naming the member as the sender knows it."""
    return str(error).replace(" - at `$.", " - at `").replace(" - at `$`", "")


def decode(body: bytes, kind: type[T]) -> T:
    """Take a JSON body apart. Raises Problem (400 not JSON, 422 not what is expected)."""
    try:
        decoded = msgspec.json.decode(body, type=kind)
        body.decode()
        names = [f'"{field}"'.encode() for field in kind.__struct_fields__]
        if any(body.count(name) > 1 for name in names) or _ESCAPED_LETTER.search(body):
            _refuse_repeated_members(body)
    except msgspec.ValidationError as error:
        raise Problem("invalid_request", sentence(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem("invalid_json", f"the body is not JSON in UTF-8: {error}") from None
    except RecursionError:
        raise Problem("invalid_message", f"JSON is nested {MAX_DEPTH} deep at most") from None
    return decoded


def check_messages(parts: list[tuple[msgspec.Raw, str | None, msgspec.Raw | None]]) -> None:
    """Check every message's size, depth and numbers. Raises Problem (413, 422), naming the message by its place."""
    for place, (payload, key, headers) in enumerate(parts):
        size = len(bytes(payload)) + len((key or "").encode()) + len(bytes(headers or b""))
        if size > MAX_MESSAGE:
            raise Problem(
                "message_too_large",
                f"message {place} has {size} bytes; a message has at most {MAX_MESSAGE}",
            )
        for text in (payload, headers):
            if text is not None:
                _check_value(bytes(text), place)


def _check_value(text: bytes, place: int) -> None:
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise Problem("invalid_message", f"message {place} is nested deeper than {MAX_DEPTH}")
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # JSON has no largest number, but its readers do: 1e400 would come back as infinity, or not at all
        raise Problem("invalid_message", f"message {place}: {error}") from None


def _depth(text: bytes) -> int:
    deepest = depth = 0
    for byte in _STRING.sub(b"", text):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _refuse_repeated_members(body: bytes) -> None:
    outermost: list[str] = []

    def remember(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = [name for name, _ in pairs]  # the outermost object is closed last

    # numbers stay text: Python takes no integer of more than 4,300 digits
    json.loads(body, object_pairs_hook=remember, parse_int=str)
    if len(set(outermost)) < len(outermost):
        raise Problem("invalid_request", "a member is given twice")
