"""One embedded cluster a test session (and worker), one database a test, from a template."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection, make_dsn

from server.engines.postgres.embedded import EmbeddedPostgres, forget_variables
from server.engines.postgres.install import install
from tests.loop import Loop, looping
from tests.reaped import short_directory, start_reaper
from tests.server_process import ServerProcess, end, serving

TEMPLATE = "template_queue"
# No test hangs: whatever waits this long for a lock, or runs this long, fails.
BOUNDED = "-c lock_timeout=10s -c statement_timeout=30s -c client_min_messages=warning"
# For tests that name epochs, or compare two databases.
EPOCHS_FROM_0 = (
    "create or replace function queue.new_epoch() returns bigint language sql "
    "set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as 'select 0::bigint'"
)

numbers = itertools.count(1)

# before anything is started that would inherit them, and that would be left
forget_variables()
for number in (signal.SIGINT, signal.SIGHUP):
    # a shell's background jobs and nohup ignore them: a handler is not inherited, that is
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
start_reaper()


@pytest.fixture(scope="session")
def pg_bin() -> Path | None:
    """PostgreSQL's programs under test: None, or what QUEUE_TEST_PG_BIN says."""
    chosen = os.environ.get("QUEUE_TEST_PG_BIN")
    return Path(chosen) if chosen else None


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory with a short path."""
    with short_directory() as path:
        yield Path(path)


@pytest.fixture(scope="session")
def cluster(pg_bin: Path | None) -> Iterator[EmbeddedPostgres]:
    """The cluster of this session (of this worker): fast, hence not durable."""
    with short_directory() as path:
        fast = {"fsync": "off", "full_page_writes": "off"}
        with EmbeddedPostgres(Path(path), bin_dir=pg_bin, settings=fast) as postgres:
            yield postgres


@pytest.fixture(scope="session")
def template(cluster: EmbeddedPostgres) -> str:
    """The name of a database with init/ applied, never changed by a test."""
    execute(cluster, f"CREATE DATABASE {TEMPLATE}")
    assert install(make_dsn(cluster.dsn, dbname=TEMPLATE))
    return TEMPLATE


@pytest.fixture
def dsn(cluster: EmbeddedPostgres, template: str) -> Iterator[str]:
    """A database of the test's own, as the template has it."""
    with database(cluster, template) as dsn:
        yield dsn


@pytest.fixture
def connect(dsn: str) -> Iterator[Callable[[], connection]]:
    """Open connections to the test's database; they are closed when it ends."""
    with ExitStack() as opened:

        def open_one() -> connection:
            return opened.enter_context(closing(psycopg2.connect(dsn, options=BOUNDED)))

        yield open_one


@pytest.fixture
def loop() -> Iterator[Loop]:
    """An event loop like the worker's, but in a thread of its own."""
    with looping() as running:
        yield running


@pytest.fixture(scope="session")
def server(
    cluster: EmbeddedPostgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """One server for all tests that only use topics of their own; see ``start_server``."""
    log = tmp_path_factory.mktemp("server") / "log"
    with (
        database(cluster, template) as dsn,
        serving(ServerProcess(log, database_url=dsn)) as process,
    ):
        yield process


@pytest.fixture
def start_server(dsn: str, tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start servers on the test's own database, with settings as ``ServerProcess`` takes them.

    In the end each that still runs must stop with 0.
    """
    started: list[ServerProcess] = []

    def start_one(*flags: str, port: int | None = None, **settings: str) -> ServerProcess:
        log = tmp_path / f"server-{len(started)}.log"
        process = ServerProcess(log, *flags, port=port, **{"database_url": dsn, **settings})
        process.start()
        started.append(process)
        process.ready()
        return process

    try:
        yield start_one
        assert not any(process.stop() for process in started if process.running)
    finally:
        for process in started:
            end(process)


@pytest.fixture
def topic(server: ServerProcess) -> str:
    """A topic of the test's own on the shared server."""
    name = f"topic-{next(numbers)}"
    assert server.call("POST", "/topics", {"topic": name}).status_code == 201
    return name


@contextmanager
def database(cluster: EmbeddedPostgres, template: str) -> Iterator[str]:
    """Make a database from the template; yield its DSN, and drop it."""
    name = f"test_{next(numbers)}"
    execute(cluster, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield make_dsn(cluster.dsn, dbname=name)
    execute(cluster, f"DROP DATABASE {name} WITH (FORCE)")


def execute(cluster: EmbeddedPostgres, statement: str) -> None:
    """Run a statement outside of a transaction, in a database that no test uses."""
    with closing(psycopg2.connect(cluster.dsn, options=BOUNDED)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(statement)
