"""A failover: the endpoint leads to a standby for a moment, or the primary is fenced; nothing stale is served."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.install import install
from tests.proxy import CuttingProxy, cutting
from tests.server.answers import ok, refused
from tests.server_process import STARTED, ServerProcess, end, serving
from tests.standby import socket_of, standby
from tests.waiting import until

BACK = 10.0  # seconds, from the endpoint's return to the server's
READS = ["/topics", "/topics/t", "/topics/t/messages", "/topics/t/subscribers/s/messages?wait=1"]


@pytest.fixture
def primary(directory: Path, pg_bin: Path | None) -> Iterator[EmbeddedPostgres]:
    """A cluster of the test's own, with init/ applied."""
    with EmbeddedPostgres(
        directory / "primary", bin_dir=pg_bin, settings={"fsync": "off"}
    ) as postgres:
        assert install(postgres.dsn)
        yield postgres


@pytest.fixture
def copy(
    primary: EmbeddedPostgres, directory: Path, pg_bin: Path | None
) -> Iterator[EmbeddedPostgres]:
    """Its standby."""
    with standby(primary, directory / "standby", pg_bin) as postgres:
        yield postgres


@pytest.fixture
def endpoint(primary: EmbeddedPostgres) -> Iterator[CuttingProxy]:
    """An address that leads to the primary until it is turned."""
    with cutting(socket_of(primary), 0) as proxy:
        yield proxy


def through(*endpoints: CuttingProxy, more: str = "") -> str:
    """Return the DSN that leads through endpoints."""
    hosts = ",".join(["127.0.0.1"] * len(endpoints))
    ports = ",".join(str(endpoint.port) for endpoint in endpoints)
    return f"host={hosts} port={ports} dbname=queue user=postgres {more}"


@contextmanager
def at_work(log: Path, dsn: str) -> Iterator[ServerProcess]:
    """Run a server with a topic, a message and a subscriber."""
    with serving(ServerProcess(log, database_url=dsn)) as server:
        ok(server.call("POST", "/topics", {"topic": "t"}), 201)
        ok(server.call("POST", "/topics/t/subscribers", {"subscriber": "s"}), 201)
        publish(server, 1)
        yield server


def publish(server: ServerProcess, payload: int) -> None:
    """Publish a message; its payload is its offset."""
    answer = ok(server.call("POST", "/topics/t/messages", {"payloads": [payload]}), 201)
    assert answer["first_offset"] == payload


def nothing_is_served(server: ServerProcess, why: str) -> None:
    """Expect 503 of everything, with the reason, and that nothing was done."""
    for path in ["/health", *READS]:
        assert why in refused(server.call("GET", path), "unavailable", outcome="none")["detail"]
    for method, path, body in [
        ("POST", "/topics/t/messages", {"payloads": ["lost"]}),
        ("POST", "/topics/t/subscribers/s/ack", {"offset": 0, "epoch": 0}),
        ("DELETE", "/topics/t", None),
    ]:
        answer = refused(server.call(method, path, body), "unavailable", outcome="none")
        assert why in answer["detail"]


def all_is_served(server: ServerProcess, head: int) -> None:
    """Expect the server to be back by itself, with everything up to ``head``; publish one more."""
    until(server.healthy, BACK)
    messages = ok(server.call("GET", "/topics/t/subscribers/s/messages"))["messages"]
    assert [message["payload"] for message in messages] == list(range(1, head + 1))
    publish(server, head + 1)


def ask(postgres: EmbeddedPostgres, statement: str) -> Any:
    """Return the one value that a statement answers."""
    with closing(psycopg2.connect(postgres.dsn)) as session, session.cursor() as cursor:
        session.autocommit = True
        cursor.execute(statement)
        return (cursor.fetchone() or (None,))[0] if cursor.description else None


def test_an_endpoint_that_leads_to_a_standby_for_a_moment(
    primary: EmbeddedPostgres, copy: EmbeddedPostgres, endpoint: CuttingProxy, tmp_path: Path
) -> None:
    with at_work(tmp_path / "log", through(endpoint)) as server:
        for head in (1, 2):
            endpoint.turn(socket_of(copy))
            nothing_is_served(server, "the database is a standby")
            endpoint.turn(socket_of(primary))
            all_is_served(server, head)


def test_a_session_that_was_pinned_to_a_standby_would_serve_stale_reads(
    primary: EmbeddedPostgres, copy: EmbeddedPostgres
) -> None:
    """The control of the test above: the standby does answer, and is behind."""
    ask(primary, "select queue.create_topic('t')")
    until(lambda: ask(copy, "select count(*) from queue.topics") == 1)
    ask(copy, "select pg_wal_replay_pause()")
    ask(primary, "select queue.publish('t', '1')")
    assert ask(copy, "select head from queue.get_topic('t')") == 0
    assert ask(primary, "select head from queue.get_topic('t')") == 1


def test_a_promoted_standby_is_taken(
    primary: EmbeddedPostgres, copy: EmbeddedPostgres, endpoint: CuttingProxy, tmp_path: Path
) -> None:
    with at_work(tmp_path / "log", through(endpoint)) as server:
        lag = "select coalesce(sum(pg_current_wal_lsn() - replay_lsn), 1) from pg_stat_replication"
        until(lambda: ask(primary, lag) == 0)
        endpoint.turn(socket_of(copy))
        refused(server.call("GET", "/health"), "unavailable")
        primary.stop()
        assert ask(copy, "select pg_promote()")
        all_is_served(server, 1)


@pytest.fixture
def fence(primary: EmbeddedPostgres) -> Callable[[str], None]:
    """Make the primary read only: at once ("alter system"), or for new sessions, the others being ended."""

    def make(how: str) -> None:
        ask(primary, f"{how} set default_transaction_read_only = on")
        ask(primary, "select pg_reload_conf()")
        if how != "alter system":
            ask(
                primary,
                """select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
                   where datname = 'queue' and pid <> pg_backend_pid()""",
            )

    return make


@pytest.mark.parametrize("how", ["alter system", "alter database queue", "alter role postgres"])
def test_a_fenced_primary_serves_no_reads_either(
    how: str, primary: EmbeddedPostgres, fence: Callable[[str], None], tmp_path: Path
) -> None:
    """Another one may have been promoted, and this one is behind it: what is fenced stays so, whoever fenced it."""
    with at_work(tmp_path / "log", primary.dsn) as server:
        fence(how)
        until(lambda: not server.healthy())
        nothing_is_served(server, "the database is read only: default_transaction_read_only is on")
        with closing(psycopg2.connect(primary.dsn)) as session, session.cursor() as cursor:
            session.autocommit = True
            cursor.execute("set default_transaction_read_only = off")
            cursor.execute(f"{how} reset default_transaction_read_only")
        ask(primary, "select pg_reload_conf()")
        all_is_served(server, 1)


def test_a_fence_is_seen_by_whichever_call_comes_first(
    primary: EmbeddedPostgres, fence: Callable[[str], None], tmp_path: Path
) -> None:
    """A read that the fenced primary has answered is not served; a publish is not taken."""
    with at_work(tmp_path / "log", primary.dsn) as server:
        for path in [*READS, "/health"]:
            fence("alter system")
            until(lambda: ask(primary, "show transaction_read_only") == "on")
            refused(server.call("GET", path), "unavailable", outcome="none")
            with closing(psycopg2.connect(primary.dsn)) as session, session.cursor() as cursor:
                session.autocommit = True
                cursor.execute("set default_transaction_read_only = off")
                cursor.execute("alter system reset default_transaction_read_only")
            ask(primary, "select pg_reload_conf()")
            until(server.healthy, BACK)
        all_is_served(server, 1)


@pytest.mark.parametrize("order", ["primary first", "standby first"])
def test_two_hosts_of_which_the_writable_one_is_asked_for(
    order: str,
    primary: EmbeddedPostgres,
    copy: EmbeddedPostgres,
    endpoint: CuttingProxy,
    tmp_path: Path,
) -> None:
    with cutting(socket_of(copy), 0) as other:
        both = [endpoint, other] if order == "primary first" else [other, endpoint]
        led = through(*both, more="target_session_attrs=read-write")
        with at_work(tmp_path / "log", led) as server:
            endpoint.turn(socket_of(copy))
            refused(server.call("GET", "/health"), "unavailable")
            other.turn(socket_of(primary))  # they have changed places
            all_is_served(server, 1)


def test_a_server_that_finds_only_a_standby_waits_for_the_primary(
    primary: EmbeddedPostgres, copy: EmbeddedPostgres, tmp_path: Path
) -> None:
    with cutting(socket_of(copy), 0) as endpoint:
        server = ServerProcess(tmp_path / "log", database_url=through(endpoint))
        server.start()
        try:
            until(lambda: "waiting up to" in server.log, STARTED)
            refusals = "the database is a standby, which takes no writes"
            until(lambda: endpoint.reached > 3)  # it has tried again
            assert server.log.count(refusals) == 1 and len(server.log.splitlines()) == 1, server.log
            endpoint.turn(socket_of(primary))
            server.ready()
            ok(server.call("POST", "/topics", {"topic": "t"}), 201)
            assert server.stop() == 0
        finally:
            end(server)
