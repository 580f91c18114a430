"""One server an address, although the sockets below would share it; and each is known by its address."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from qlib import QPublisher
from server.address import compared
from server.http.serving import CannotListen, bind, listen
from tests.server.answers import ok, refused
from tests.server_process import ROOT, ServerProcess, end, free_port
from tests.waiting import until

# A network of the test's own, where nothing else is, and the addresses are loopback's.
APART = """
set -e
ip link set lo up
for address in fd00:1::5/128 fe80::1/64; do ip -6 address add $address dev lo nodad; done
exec "$@"
"""
ASK = """
import sys
from pathlib import Path
from qlib import QPublisher
from tests.server_process import ServerProcess, serving
from tests.waiting import until
log, database, host, name, allowed = sys.argv[1:]
settings = {"database_url": database, "queue_token": "t", "queue_allow_host": allowed}
server = ServerProcess(Path(log), host=host, **settings)
with serving(server):
    line = f"queue server on http://[{host}]:{server.port}\\n"
    until(lambda: line in server.log)
    with QPublisher(f"http://{name}:{server.port}", token="t") as queue:
        print(queue.topics())
"""


def test_a_second_server_is_told(
    start_server: Callable[..., ServerProcess], dsn: str, tmp_path: Path
) -> None:
    first = start_server()
    second = ServerProcess(tmp_path / "second", port=first.port, database_url=dsn)
    second.start()
    assert second.wait() == 1
    assert f"cannot listen on 127.0.0.1:{first.port}: Address already in use" in second.log


def test_of_two_that_start_at_once_one_listens(dsn: str, tmp_path: Path) -> None:
    port = free_port()
    both = [ServerProcess(tmp_path / f"log-{n}", port=port, database_url=dsn) for n in range(2)]
    try:
        for server in both:
            server.start()
        until(lambda: not all(server.running for server in both), 30)
        (told,) = (server for server in both if not server.running)
        (first,) = (server for server in both if server.running)
        assert told.wait() == 1
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in told.log
        first.ready()
        assert first.stop() == 0, first.log
    finally:
        for server in both:
            end(server)


def test_an_address_is_not_shared() -> None:
    port = free_port()
    in_use = f"cannot listen on 127.0.0.1:{port}: Address already in use"
    with closing(bind("127.0.0.1", port)) as first, closing(bind("127.0.0.1", port)) as second:
        with pytest.raises(ConnectionRefusedError):  # nobody is taken who would not be answered
            socket.create_connection(("127.0.0.1", port))
        listen(first)
        with pytest.raises(CannotListen, match=in_use):
            listen(second)
        with pytest.raises(CannotListen, match=in_use):
            bind("127.0.0.1", port)
    with closing(bind("127.0.0.1", port)) as again:
        listen(again)


def test_some_sockets_would_share() -> None:
    """The control: what asks for it, and the kernel deals out the connections."""
    with socket.socket() as first, socket.socket() as second:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.bind(("127.0.0.1", 0))
        first.listen()
        second.bind(first.getsockname())
        second.listen()


@pytest.mark.parametrize(
    ("host", "listens"),
    [("::1", "[::1]"), ("0:0:0:0:0:0:0:1", "[::1]"), ("::ffff:127.0.0.1", "127.0.0.1")],
)
def test_an_ipv6_address_is_answered_under_its_own_name(
    start_server: Callable[..., ServerProcess], host: str, listens: str
) -> None:
    server = start_server(host=host)
    until(lambda: f"queue server on http://{listens}:{server.port}\n" in server.log)
    with QPublisher(server.url) as queue:
        assert queue.topics() == []
    for name in (f"[{host}]", f"[{host}]:{server.port}", "[::1]", "[::FFFF:127.0.0.1]:1"):
        ok(server.call("GET", "/health", headers={"Host": name}))
    for name in ("[fd00:1::5]", "[::2]", "[::1", "::1", "[]", "[::ffff:10.0.0.1]", "[v1.a]"):
        refused(server.call("GET", "/health", headers={"Host": name}), "host_not_allowed")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and ip")
@pytest.mark.parametrize(
    ("host", "name", "allowed", "answered"),
    [
        ("fd00:1::5", "[fd00:1::5]", "", True),
        ("fd00:1::5", "[FD00:1:0:0::5]", "", True),
        ("::", "[fd00:1::5]", "fd00:1::5", True),
        ("::", "[fe80::1%25lo]", "fe80::1", True),
        ("::", "[fd00:1::5]", "fd00:1::6", False),
    ],
)
def test_so_is_one_that_is_not_loopback(
    dsn: str, tmp_path: Path, host: str, name: str, allowed: str, answered: bool
) -> None:
    ask = [sys.executable, "-c", ASK, str(tmp_path / "log"), dsn, host, name, allowed]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", APART, "sh", *ask],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert (done.returncode == 0 and done.stdout == "[]\n") == answered, done
    assert ("this server does not answer to" in done.stderr) != answered


@pytest.mark.parametrize(
    ("host", "same"),
    [
        ("Queue.TEST", "queue.test"),
        ("[FD00:1:0::5]", "[fd00:1::5]"),
        ("[fd00:1:0:0:0:0:0:5]", "[fd00:1::5]"),
        ("[fe80::1%25eth0]", "[fe80::1]"),
        ("[::ffff:7f00:1]", "127.0.0.1"),
        ("fd00:1::5", "fd00:1::5"),
        ("[queue.test]", "[queue.test]"),
        ("[127.0.0.1]", "[127.0.0.1]"),
        ("127.1", "127.1"),
        ("", ""),
    ],
)
def test_addresses_are_compared_in_one_form(host: str, same: str) -> None:
    assert compared(host) == same
