"""The smallest use of the client's door to the server."""

import msgspec

from qlib.reading import read
from qlib.transport import Transport
from tests.qlib.hostile import answer, http

GOOD = answer({"value": 7})
WHOLE = http(200, b'{"value":7}')


class Value(msgspec.Struct):
    value: int


def the_value(content: bytes) -> int:
    """Read the value out of an answer."""
    return read(Value, content).value


def send(url: str | None, method: str = "POST", timeout: float = 5.0, **options: object) -> int:
    """Ask for the value; the connections are closed afterwards."""
    door = Transport(url, None, timeout)
    try:
        return door.request(method, ("value",), the_value, **options)
    finally:
        door.close()
