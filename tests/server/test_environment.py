"""PG* in the environment lead nobody to another cluster when the embedded one is used."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from server.engines.postgres.embedded import EmbeddedPostgres
from tests.conftest import execute
from tests.libpq import misleading
from tests.proxy import CuttingProxy, cutting
from tests.server_process import ROOT, ServerProcess, serving

# an address of this process' own, and the embedded one's own port, which is in its connection string
ELSEWHERE = (f"127.1.{os.getpid() // 256 % 256}.{os.getpid() % 256}", 5432)

# A kernel: it makes a topic, and tells what its environment says then.
KERNEL = """
import os, sys
from qlib import QPublisher, lab
lab.up(fresh="mine")
QPublisher().create_topic("mine")
assert lab.sql("select topic from queue.topics")["topic"].tolist() == ["mine"]
print(os.environ.get("PGHOSTADDR"), os.environ.get("PGSERVICE"))
"""

redirections = pytest.mark.parametrize("redirection", ["PGHOSTADDR", "PGSERVICE"])


@contextmanager
def reached_over_tcp(cluster: EmbeddedPostgres) -> Iterator[CuttingProxy]:
    """Somebody else's cluster: that of the tests, reached at ELSEWHERE, with no schema of ours."""
    execute(cluster, "DROP SCHEMA IF EXISTS queue CASCADE")
    socket = f"{parse_dsn(cluster.dsn)['host']}/.s.PGSQL.5432"
    with cutting(socket, 0, ELSEWHERE) as proxy:
        yield proxy


def pointing_there(redirection: str, directory: Path) -> dict[str, str]:
    """Return an environment that leads to ELSEWHERE."""
    if redirection == "PGHOSTADDR":
        return {"PGHOSTADDR": ELSEWHERE[0]}
    (directory / "services").write_text(f"[theirs]\nhostaddr={ELSEWHERE[0]}\n")
    return {"PGSERVICE": "theirs", "PGSERVICEFILE": str(directory / "services")}


def has_schema(cluster: EmbeddedPostgres) -> bool:
    with closing(psycopg2.connect(cluster.dsn)) as session, session.cursor() as rows:
        rows.execute("SELECT to_regnamespace('queue') IS NOT NULL")
        return bool((rows.fetchone() or [None])[0])


@redirections
def test_a_server_serves_its_own_cluster(
    cluster: EmbeddedPostgres, directory: Path, redirection: str
) -> None:
    elsewhere = {n.lower(): v for n, v in pointing_there(redirection, directory).items()}
    flags = ["--data", str(directory / "data")]
    with (
        reached_over_tcp(cluster) as theirs,
        serving(ServerProcess(directory / "log", *flags, **elsewhere)) as server,
    ):
        assert server.call("POST", "/topics", {"topic": "mine"}).status_code == 201
        dsn = (directory / "data" / "dsn").read_text().strip()
        with closing(psycopg2.connect(dsn)) as session, session.cursor() as rows:
            rows.execute("SELECT topic FROM queue.topics")
            assert rows.fetchall() == [("mine",)]
        assert theirs.reached == 0 and not has_schema(cluster)


@redirections
def test_a_kernel_works_in_its_own_cluster(
    cluster: EmbeddedPostgres, directory: Path, redirection: str
) -> None:
    elsewhere = pointing_there(redirection, directory)
    own = {n: v for n, v in os.environ.items() if not n.startswith("QUEUE_")}
    with reached_over_tcp(cluster) as theirs:
        done = subprocess.run(
            [sys.executable, "-c", KERNEL],
            env={**own, **elsewhere},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        told, environment = done.stdout.splitlines()
        assert told == "this notebook has a private queue"
        assert environment.split() == [
            str(elsewhere.get("PGHOSTADDR")),
            str(elsewhere.get("PGSERVICE")),
        ]
        assert theirs.reached == 0 and not has_schema(cluster)


@redirections
def test_control_libpq_would_have_gone_there(
    cluster: EmbeddedPostgres, directory: Path, redirection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reached_over_tcp(cluster) as theirs:
        for name, value in pointing_there(redirection, directory).items():
            monkeypatch.setenv(name, value)
        dsn = make_dsn(host="/nowhere", port=ELSEWHERE[1], user="postgres", dbname="queue")
        psycopg2.connect(dsn).close()
        assert theirs.reached == 1


def test_a_server_with_every_variable_set(directory: Path) -> None:
    variables = {name.lower(): value for name, value in misleading().items()}
    flags = ["--data", str(directory / "data")]
    with serving(ServerProcess(directory / "log", *flags, **variables)) as server:
        assert server.call("POST", "/topics", {"topic": "é"}).status_code == 422
        assert server.call("POST", "/topics", {"topic": "e", "description": "é€"}).ok
        answer = server.call("GET", "/topics/e").json()
        assert answer["description"] == "é€" and answer["created_at"].endswith("Z")


def test_with_a_database_of_one_s_own_they_count(
    dsn: str, start_server: Callable[..., ServerProcess]
) -> None:
    own = parse_dsn(dsn)
    server = start_server(
        database_url=make_dsn(host=own["host"], port=own["port"]),
        pguser=own["user"],
        pgdatabase=own["dbname"],
    )
    assert server.call("POST", "/topics", {"topic": "mine"}).status_code == 201
    with closing(psycopg2.connect(dsn)) as session, session.cursor() as rows:
        rows.execute("SELECT topic FROM queue.topics")
        assert rows.fetchall() == [("mine",)]
