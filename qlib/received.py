"""An answer as it comes off a socket: HTTP/1.1 read strictly, within a time and a size.

Of all that an answer may say in its head this client needs a handful of lines, and `http.client` and
`urllib3` spend more time on the rest than all of `qlib` does on a message.
"""

from __future__ import annotations

import io
import re
import socket
from http.client import HTTPException
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

LARGEST = 64 * 2**20
_BUFFER = 2**16
_LONGEST_LINE = 2**16
_MOST_LINES = 100
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: .*)?")
_FIELD = re.compile(rb"([!#-'*+.^-z|~0-9A-Z-]+):(.*)", re.DOTALL)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_WITHOUT_BODY = (204, 304)
_LENGTHS = frozenset(("content-length", "transfer-encoding"))

_Stream: TypeAlias = "io.BufferedReader[_BoundedReader]"


class Received(NamedTuple):
    """An answer: of one that is not `whole`, which is too long, `content` is the beginning.

    The names in `headers` are in lower case; the connection `goes_on` when it can be used again.
    """

    status: int
    headers: dict[str, str]
    content: bytes
    whole: bool
    goes_on: bool

    @property
    def is_delimited(self) -> bool:
        """Whether it says where it ends: else it may have been cut off."""
        return self.status in _WITHOUT_BODY or not _LENGTHS.isdisjoint(self.headers)


def receive(sock: socket.socket, deadline: float) -> Received:
    """Read one answer until the deadline on the monotonic clock, and no more of it than fits.

    Raises OSError, or HTTPException for what is no answer or is cut off.
    """
    reader = _BoundedReader(sock, deadline)
    stream = io.BufferedReader(reader, _BUFFER)
    version, status, headers = _head(stream)
    while status < 200:
        version, status, headers = _head(stream)
    content, whole = (b"", True) if status in _WITHOUT_BODY else _content(stream, headers)
    reader.is_through = True
    received = Received(status, headers, content, whole, False)
    goes_on = version == b"1" and whole and _keeps(received) and not stream.peek(1)
    return received._replace(goes_on=goes_on)


def _keeps(received: Received) -> bool:
    """Say whether the server goes on, and where: nothing may be left of this answer."""
    headers = received.headers
    if received.status in _WITHOUT_BODY:
        ends = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    else:
        ends = received.is_delimited
    return ends and "close" not in headers.get("connection", "").lower()


class _BoundedReader(io.RawIOBase):
    """Reads a socket; all its waits together end at the deadline.

    A plain timeout bounds each wait for the next byte, so a peer that sends one now and then could
    hold a caller for ever. Once the answer `is_through`, it takes nothing more.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self.is_through = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.is_through:
            return 0
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)


def _head(stream: _Stream) -> tuple[bytes, int, dict[str, str]]:
    """Return the version behind "1.", the status and the headers."""
    line = _line(stream)
    begins = _STATUS.fullmatch(line)
    if not begins:
        raise HTTPException(f"the answer is not HTTP: {line!r:.80}")
    headers: dict[str, str] = {}
    for _ in range(_MOST_LINES):
        if not (line := _line(stream)):
            return begins[1], int(begins[2]), headers
        field = _FIELD.fullmatch(line)
        if not field:
            raise HTTPException(f"the answer's head is not HTTP: {line!r:.80}")
        name, value = field[1].decode().lower(), field[2].strip().decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    raise HTTPException("the answer's head does not end")


def _content(stream: _Stream, headers: dict[str, str]) -> tuple[bytes, bool]:
    """Return the body, and whether that is all of it."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked":
            raise HTTPException(f"the answer is coded: {coding:.80}")
        return _chunks(stream)
    if length is None:
        content = stream.read(LARGEST + 1)
        return content, len(content) <= LARGEST
    if not re.fullmatch("[0-9]{1,15}", length):
        raise HTTPException(f"the answer has an odd length: {length:.80}")
    return _exactly(stream, min(int(length), LARGEST + 1)), int(length) <= LARGEST


def _chunks(stream: _Stream) -> tuple[bytes, bool]:
    found = bytearray()
    while size := _size(_line(stream)):
        found += _exactly(stream, min(size, LARGEST + 1 - len(found)))
        if len(found) > LARGEST:
            return bytes(found), False
        if _line(stream):
            raise HTTPException("a chunk of the answer is longer than it says")
    while _line(stream):
        pass  # a header behind the body says nothing to us
    return bytes(found), True


def _size(line: bytes) -> int:
    said = _SIZE.fullmatch(line)
    if not said:
        raise HTTPException(f"a chunk of the answer has an odd length: {line!r:.80}")
    return int(said[1], 16)


def _line(stream: _Stream) -> bytes:
    """Return the next line without its end."""
    line = stream.readline(_LONGEST_LINE)
    if line[-1:] != b"\n":
        raise HTTPException("a line of the answer is cut off, or too long")
    return line[:-2] if line[-2:] == b"\r\n" else line[:-1]


def _exactly(stream: _Stream, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise HTTPException(f"the answer is cut off: {len(content)} bytes of {size}")
    return content
