"""One server an address, although the sockets below would share it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from granian.net import SocketSpec

from server.address import claim
from tests.server_process import ServerProcess, free_port


def test_a_second_server_is_told(
    start_server: Callable[..., ServerProcess], dsn: str, tmp_path: Path
) -> None:
    first = start_server()
    second = ServerProcess(tmp_path / "second", port=first.port, database_url=dsn)
    second.start()
    assert second.wait() == 1
    assert f"cannot listen on 127.0.0.1:{first.port}: Address already in use" in second.log


def test_an_address_is_claimed_before_anybody_listens() -> None:
    port = free_port()
    with claim("127.0.0.1", port), pytest.raises(OSError, match="in use"):
        claim("127.0.0.1", port)
    claim("127.0.0.1", port).close()


def test_the_sockets_alone_would_share() -> None:
    port = free_port()  # the control
    assert len([SocketSpec("127.0.0.1", port, 128).build() for _ in range(2)]) == 2
