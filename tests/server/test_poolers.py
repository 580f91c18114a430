"""Behind Debian's pgbouncer: sessions work, and whatever is less than a session is refused at the start."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection

from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.install import install
from tests.pooler import pgbouncer, pooling
from tests.server.answers import ok, refused
from tests.server_process import STARTED, ServerProcess, end, serving
from tests.waiting import until

pytestmark = pytest.mark.skipif(pgbouncer() is None, reason="there is no pgbouncer on the PATH")

OPTIONS_DROPPED = {"ignore_startup_parameters": "options"}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for the calls that wait."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.mark.parametrize("settings", [{}, OPTIONS_DROPPED], ids=["plain", "options dropped"])
def test_sessions_serve(
    settings: dict[str, str],
    dsn: str,
    connect: Callable[[], connection],
    directory: Path,
    tmp_path: Path,
    pool: ThreadPoolExecutor,
) -> None:
    with (
        pooling(directory, dsn, pool_mode="session", **settings) as led,
        serving(ServerProcess(tmp_path / "log", database_url=led)) as server,
    ):
        ok(server.call("POST", "/topics", {"topic": "t"}), 201)
        made = ok(server.call("POST", "/topics/t/subscribers", {"subscriber": "s"}), 201)
        fetch = "/topics/t/subscribers/s/messages"
        poll = pool.submit(server.call, "GET", f"{fetch}?wait=30")
        until(lambda: "queue_waiting_polls 1.0" in server.call("GET", "/metrics").text)
        ok(server.call("POST", "/topics/t/messages", {"payloads": ["é"]}), 201)
        assert ok(poll.result(20))["messages"][0]["payload"] == "é"
        ack = {"offset": 1, "epoch": made["epoch"]}
        assert ok(server.call("POST", "/topics/t/subscribers/s/ack", ack))["lag"] == 0
        with closing(connect()) as session, session.cursor() as cursor:
            cursor.execute("select queue.publish('t', '0')")
            publish = server.call("POST", "/topics/t/messages", {"payloads": [1]})
            assert "lock" in refused(publish, "unavailable")["detail"], "else the timeout was lost"


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize(
    "settings",
    [{}, OPTIONS_DROPPED, {"server_round_robin": "1"}, {"default_pool_size": "1"}],
    ids=["plain", "options dropped", "round robin", "one backend"],
)
def test_less_than_a_session_is_refused_in_one_sentence(
    mode: str, settings: dict[str, str], dsn: str, directory: Path, tmp_path: Path
) -> None:
    with pooling(directory, dsn, pool_mode=mode, **settings) as led:
        server = ServerProcess(tmp_path / "log", database_url=led)
        server.start()
        try:
            until(lambda: not server.running, STARTED)
        finally:
            end(server)
    (line,) = server.log.splitlines()
    port = led.split("port=")[1].split()[0]
    assert f"cannot start: the pooler at 127.0.0.1:{port} hands out" in line
    assert "pool_mode = session" in line


def test_statements_that_another_server_left_behind_are_the_same_ones(
    dsn: str, directory: Path, tmp_path: Path
) -> None:
    """Without a reset, the backends go from one server to the next with all that was prepared on them."""
    with pooling(directory, dsn, pool_mode="session", server_reset_query="") as led:
        with serving(ServerProcess(tmp_path / "first", database_url=led)) as server:
            for name in ("kept", "gone"):
                ok(server.call("POST", "/topics", {"topic": name}), 201)
            ok(server.call("DELETE", "/topics/gone"), 204)
        with serving(ServerProcess(tmp_path / "second", database_url=led)) as server:
            assert ok(server.call("GET", "/topics/kept"))["topic"] == "kept"
            ok(server.call("POST", "/topics/kept/messages", {"payloads": [1]}), 201)
            ok(server.call("POST", "/topics", {"topic": "gone"}), 201)
            listed = ok(server.call("GET", "/topics"))["topics"]
            assert [topic["topic"] for topic in listed] == ["gone", "kept"]


def test_a_pooler_without_a_session_left_is_a_bounded_wait(
    dsn: str, directory: Path, tmp_path: Path
) -> None:
    """A pooler takes the connection, and lets the first statement wait for minutes."""
    few = {"default_pool_size": "6", "query_wait_timeout": "300"}
    with pooling(directory, dsn, pool_mode="session", **few) as led:
        server = ServerProcess(tmp_path / "log", database_url=f"{led} connect_timeout=2")
        try:
            with ExitStack() as taken:
                for _ in range(6):
                    session = taken.enter_context(closing(psycopg2.connect(led)))
                    session.cursor().execute("select 1")
                server.start()
                until(lambda: "no answer within 2 s: has the pooler no" in server.log, STARTED)
            server.ready()
            ok(server.call("POST", "/topics", {"topic": "t"}), 201)
            assert server.stop() == 0, server.log
        finally:
            end(server)


def test_a_fence_is_seen_behind_a_pooler_that_was_welcomed_by_one(
    directory: Path, pg_bin: Path | None, tmp_path: Path
) -> None:
    """It hands its own first welcome on: its clients hear "read only" long after that is over, and nothing new then."""
    with EmbeddedPostgres(directory / "data", bin_dir=pg_bin, settings={"fsync": "off"}) as own:
        install(own.dsn)

        def fence(state: str) -> None:
            with closing(psycopg2.connect(own.dsn)) as session, session.cursor() as cursor:
                session.autocommit = True
                cursor.execute("set default_transaction_read_only = off")
                cursor.execute(f"alter system set default_transaction_read_only = {state}")
                cursor.execute("select pg_reload_conf()")

        fence("on")
        with (
            pooling(directory, own.dsn, pool_mode="session", min_pool_size="1") as led,
            closing(psycopg2.connect(led)) as welcomed,
        ):
            until(lambda: welcomed.get_parameter_status("default_transaction_read_only") == "on")
            fence("off")
            with serving(ServerProcess(tmp_path / "log", database_url=led)) as server:
                ok(server.call("GET", "/topics"))
                fence("on")
                until(lambda: server.call("GET", "/topics").status_code == 503)
                refused(server.call("GET", "/health"), "unavailable")
                fence("off")
                until(server.healthy)
