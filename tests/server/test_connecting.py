"""Connecting: every address in turn, each for a bounded time, and the loop never stands still for it."""

import asyncio
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from server.engines.errors import Unavailable
from server.engines.postgres.addresses import Place, places, said
from server.engines.postgres.connecting import connect
from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.engine import PostgresEngine
from tests.loop import Loop, looping
from tests.proxy import CuttingProxy, cutting
from tests.standby import socket_of
from tests.stopped import stopped
from tests.ticking import ticking
from tests.tls import behind_tls
from tests.waiting import until

# Not a measure of speed: what is to be seen is whether the loop stood still for as long as something was silent, which
# is for seconds here. A busy machine may be late by less.
STOOD_STILL = 1.0
SILENT = 3  # seconds for one address

Resolve = Callable[..., list[Any]]


@pytest.fixture
def tcp(cluster: EmbeddedPostgres, dsn: str) -> Iterator[CuttingProxy]:
    """The test's cluster, reached over TCP."""
    with cutting(socket_of(cluster), 0) as proxy:
        yield proxy


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Somebody who takes connections, and never says a word."""
    with socket.create_server(("127.0.0.2", 0)) as listener:
        yield listener


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str] | threading.Event]:
    """Names and their addresses, to be filled in; an event is a resolver that is dead until it is set."""
    known: dict[str, list[str] | threading.Event] = {}
    real = socket.getaddrinfo

    def look_up(host: str, port: object, *arguments: Any, **named: Any) -> list[Any]:
        found = known.get(host, [host])
        if isinstance(found, threading.Event):
            found.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [info for one in found for info in real(one, port, *arguments, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def led(dsn: str, **more: object) -> str:
    """Return the way to the test's database over TCP."""
    return make_dsn(dbname=parse_dsn(dsn)["dbname"], user="postgres", sslmode="disable", **more)


def served(loop: Loop, dsn: str) -> dict[str, str]:
    """Connect, ask, and return what libpq says of the connection."""

    async def ask() -> dict[str, str]:
        session = await connect(dsn)
        try:
            assert await session.run("select %s::int + 1", [1]) == [(2,)]
            return dict(session.info.dsn_parameters)
        finally:
            session.close()

    return loop.run(ask())


@pytest.mark.parametrize("new", [None, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_either_kind_of_loop_will_do(new: Any, dsn: str) -> None:
    with looping(*[new] if new else []) as loop:
        assert served(loop, dsn)["dbname"] == parse_dsn(dsn)["dbname"]


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_the_second_address_is_taken_when_the_first_is_silent(
    loop: Loop, dsn: str, tcp: CuttingProxy, silent: socket.socket
) -> None:
    ports = f"{port_of(silent)},{tcp.port}"
    more = {"host": "127.0.0.2,127.0.0.1", "port": ports, "connect_timeout": 1}
    assert served(loop, led(dsn, **more))["port"] == str(tcp.port)
    with pytest.raises(psycopg2.OperationalError, match="no answer within 1 s"):
        served(loop, led(dsn, host="127.0.0.2", port=port_of(silent), connect_timeout=1))


@pytest.mark.parametrize("first", ["127.0.0.3", "silent"])
def test_all_addresses_of_a_name_are_tried(
    loop: Loop, dsn: str, cluster: EmbeddedPostgres, first: str, names: dict[str, Any]
) -> None:
    with (
        socket.create_server(("127.0.0.2", 0)) as silent,
        cutting(socket_of(cluster), 0, ("127.0.0.1", port_of(silent))) as proxy,
    ):
        names["db.example"] = ["127.0.0.2" if first == "silent" else first, "127.0.0.1"]
        way = led(dsn, host="db.example", port=proxy.port, connect_timeout=1)
        assert served(loop, way)["host"] == "db.example"
        assert served(loop, way)["hostaddr"] == "127.0.0.1"
        assert proxy.reached == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl on the PATH")
def test_a_certificate_is_held_against_the_name_and_not_the_address(
    loop: Loop, dsn: str, cluster: EmbeddedPostgres, names: dict[str, Any], tmp_path: Path
) -> None:
    names["db.example"] = names["other.example"] = ["127.0.0.1"]
    with behind_tls(socket_of(cluster), "db.example", tmp_path) as (port, certificate):
        way = {"port": port, "sslmode": "verify-full", "sslrootcert": certificate}
        way |= {"dbname": parse_dsn(dsn)["dbname"], "user": "postgres", "gssencmode": "disable"}
        assert served(loop, make_dsn(host="db.example", **way))["sslmode"] == "verify-full"
        with pytest.raises(psycopg2.OperationalError, match="does not match host name"):
            served(loop, make_dsn(host="other.example", **way))


def test_what_was_wrong_with_each_is_said(loop: Loop, dsn: str, names: dict[str, Any]) -> None:
    names["gone.example"] = threading.Event()
    names["gone.example"].set()
    way = led(dsn, host="gone.example,127.0.0.1,/nowhere", port="1", connect_timeout=1)
    with pytest.raises(psycopg2.OperationalError) as failure:
        served(loop, way)
    first, second, *_ = str(failure.value).splitlines()
    assert first == (
        'could not translate host name "gone.example" to address: '
        "Temporary failure in name resolution"
    )
    assert "refused" in second and "/nowhere" in str(failure.value)


def test_a_dead_resolver_stops_nobody_else(loop: Loop, dsn: str, names: dict[str, Any]) -> None:
    """Whoever needs it is told within bounds, and there is one thread for all who ask it the same."""
    dead = names["dead.example"] = threading.Event()
    engine = PostgresEngine(dsn)
    nowhere = PostgresEngine(led(dsn, host="dead.example", connect_timeout=SILENT), patience=60)
    loop.run(engine.create_topic("t", None))
    lookups = {thread for thread in threading.enumerate() if thread.name == "lookup"}
    try:
        with ticking(loop) as ticks:
            asked = [loop.submit(nowhere.topic("t")) for _ in range(6)]
            until(lambda: any(thread.name == "lookup" for thread in threading.enumerate()))
            for _ in range(50):
                assert loop.run(engine.heads(["t"])) == {"t": 0}
            assert not any(one.done() for one in asked)
            for one in asked:
                with pytest.raises(Unavailable, match="^the database does not answer$") as refusal:
                    one.result(60)
                assert refusal.value.outcome == "none"
        still = {thread for thread in threading.enumerate() if thread.name == "lookup"}
        assert len(still - lookups) == 1
    finally:
        dead.set()
    assert ticks.count > 50 and ticks.longest < STOOD_STILL
    names["dead.example"] = ["/nowhere"]
    loop.run(nowhere.close())
    loop.run(engine.close())
    until(lambda: not any(thread.name == "lookup" for thread in threading.enumerate()))


def test_a_lookup_that_cannot_begin_is_told_and_begins_next_time(
    loop: Loop, dsn: str, tcp: CuttingProxy, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["db.example"] = ["127.0.0.1"]
    way = led(dsn, host="db.example", port=tcp.port, connect_timeout=SILENT)

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as planted:
        planted.setattr(threading.Thread, "start", start)
        with pytest.raises(psycopg2.OperationalError, match='"db.example".*start new thread'):
            served(loop, way)
    assert served(loop, way)["host"] == "db.example"


def test_a_loop_that_stands_still_is_noticed(loop: Loop) -> None:
    """The control of the tests beside it."""
    with ticking(loop) as ticks:
        until(lambda: ticks.count > 3)
        loop.call(time.sleep, 1.5 * STOOD_STILL)
        until(lambda: ticks.longest > STOOD_STILL)


def test_a_stopped_postmaster_lets_nobody_in_and_stops_nobody(
    loop: Loop, postgres: EmbeddedPostgres
) -> None:
    engine = PostgresEngine(f"{postgres.dsn} connect_timeout={SILENT}", pool_size=2)
    loop.run(engine.create_topic("t", None))
    with stopped(postgres.pid), ticking(loop) as ticks:
        # begun at once: while the first one has the only session, the second one has to connect
        held, refused = loop.call(
            lambda: [
                asyncio.ensure_future(engine._rows("select pg_sleep(0.5)", [], writes=False)),
                asyncio.ensure_future(engine.heads(["t"])),
            ]
        )
        until(held.done)
        served = 0
        while not refused.done():
            assert loop.run(engine.heads(["t"])) == {"t": 0}, "the existing session serves"
            served += 1
        assert served
        refusal = refused.exception()
        assert isinstance(refusal, Unavailable) and refusal.outcome == "none"
    assert ticks.count > 50 and ticks.longest < STOOD_STILL
    assert [loop.run(engine.heads(["t"])) for _ in range(2)] == [{"t": 0}] * 2
    loop.run(engine.close())


PLACES = {
    "host=a": [("a", "", "")],
    "host=a,b": [("a", "", ""), ("b", "", "")],
    "host=a,b port=1": [("a", "", "1"), ("b", "", "1")],
    "host=a,b port=1,2": [("a", "", "1"), ("b", "", "2")],
    "host=a,,/c port=1,,3": [("a", "", "1"), ("", "", ""), ("/c", "", "3")],
    "host=a hostaddr=::1": [("a", "::1", "")],
    "hostaddr=127.0.0.1,::1 port=5": [("", "127.0.0.1", "5"), ("", "::1", "5")],
    "postgresql://u@a:1,b:2/q": [("a", "", "1"), ("b", "", "2")],
    "postgresql://u@[::1]:7/q": [("::1", "", "7")],
    "service=theirs": [("s", "", "9")],
    "service=theirs host=mine": [("mine", "", "9")],
    "service=theirs port=1": [("s", "", "1")],
    "service=unknown": [],
    "": [],
    "port=5": [],
    "host=a,b port=1,2,3": [],
    "host=a,b hostaddr=::1": [],
}


@pytest.mark.parametrize(("dsn", "expected"), PLACES.items())
def test_the_places_that_a_connection_string_names(
    dsn: str, expected: list[tuple[str, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None means that libpq has to say."""
    (tmp_path / "services").write_text("# ours\n[other]\nhost=o\n[theirs]\nhost=s\nport=9\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    assert places(said(dsn)) == [Place(*one) for one in expected]


def test_what_a_connection_string_leaves_out_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOST", "e,f")
    monkeypatch.setenv("PGPORT", "3,4")
    assert places(said("")) == [Place("e", "", "3"), Place("f", "", "4")]
    assert places(said("host=a port=1")) == [Place("a", "", "1")]
    monkeypatch.setenv("PGHOSTADDR", "::1,::2")
    assert places(said("")) == [Place("e", "::1", "3"), Place("f", "::2", "4")]


def test_hosts_are_shuffled_where_that_is_asked_for() -> None:
    hosts = ",".join(map(str, range(100)))
    ordered = places(said(f"host={hosts}"))
    shuffled = places(said(f"host={hosts} load_balance_hosts=random"))
    assert shuffled != ordered and sorted(shuffled) == sorted(ordered)


def test_a_service_and_the_environment_lead_where_libpq_would_go(
    loop: Loop, dsn: str, tcp: CuttingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = parse_dsn(dsn)
    service = f"[mine]\nhost=localhost\nport={tcp.port}\ndbname={found['dbname']}\nuser=postgres\n"
    (tmp_path / "services").write_text(service)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    for way in ("service=mine", ""):
        monkeypatch.setenv("PGSERVICE", "" if way else "mine")
        psycopg2.connect(way).close()
        before = tcp.reached
        assert served(loop, way)["host"] == "localhost"
        assert tcp.reached == before + 1


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("host=a,b port=1,2,3", "could not match 3 port numbers to 2 hosts"),
        ("service=unknown", 'definition of service "unknown" not found'),
        ("host=/nowhere sslmode=maybe", 'invalid sslmode value: "maybe"'),
    ],
)
def test_what_is_wrong_with_a_connection_string_libpq_says(
    loop: Loop, wrong: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").touch()
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    with pytest.raises(psycopg2.OperationalError) as failure:
        served(loop, wrong)
    assert why in str(failure.value)
    with pytest.raises(psycopg2.OperationalError) as failure:
        psycopg2.connect(wrong)
    assert why in str(failure.value)


def test_a_timeout_that_is_no_number_is_refused(loop: Loop, dsn: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match='invalid integer value "soon"'):
        served(loop, f"{dsn} connect_timeout=soon")
