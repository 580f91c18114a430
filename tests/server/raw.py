"""Requests that no client library would send: bytes over a socket."""

import socket
from contextlib import suppress

JSON = b"Content-Type: application/json\r\n"


def request(
    method: str, path: bytes, body: bytes = b"", head: bytes = JSON, *, length: bool = True
) -> bytes:
    """Return the bytes of a request; without ``length`` the caller's ``head`` says how long it is."""
    announced = b"Content-Length: %d\r\n" % len(body) if length else b""
    first = method.encode() + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    return first + head + announced + b"\r\n" + body


def send(port: int, data: bytes, *, half: bool = False) -> tuple[int, bytes]:
    """Send bytes; return the status and the body of the (last) answer, 0 when there is none.

    ``half``: say after sending that no more will come.
    """
    *_, last = exchange(port, data, half=half).rpartition(b"HTTP/1.")
    head, _, body = last.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body


def exchange(port: int, data: bytes, *, half: bool = False) -> bytes:
    """Send bytes; return all that comes back until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        with suppress(ConnectionError):  # an early answer may close while we still send
            sock.sendall(data)
            if half:
                sock.shutdown(socket.SHUT_WR)
        received = b""
        with suppress(ConnectionError):
            while chunk := sock.recv(65536):
                received += chunk
    return received
