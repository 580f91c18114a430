"""The processes that carry messages are told what memory to keep: the worker, PostgreSQL, and that of the stack."""

from collections.abc import Callable
from pathlib import Path

import pytest

from server.engines.postgres.embedded import EmbeddedPostgres
from server.memory import MALLOC
from tests.server_process import ROOT, ServerProcess


def told(pid: int | None) -> dict[str, str]:
    """Return what a process was told when it began."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    values = dict(variable.split("=", 1) for variable in variables if variable)
    return {name: values[name] for name in MALLOC if name in values}


@pytest.fixture(autouse=True)
def nothing_is_told_by_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without what the caller may have set."""
    for name in MALLOC:
        monkeypatch.delenv(name, raising=False)


def test_the_worker_is_told(start_server: Callable[[], ServerProcess]) -> None:
    server = start_server()
    assert told(server.worker()) == MALLOC
    assert told(server.pid) == {}, "else nothing is seen above"


def test_embedded_postgres_is_told(directory: Path, pg_bin: Path | None) -> None:
    with EmbeddedPostgres(directory / "data", bin_dir=pg_bin) as postgres:
        assert told(postgres.pid) == MALLOC


def test_postgres_in_the_stack_is_told() -> None:
    db, server = (ROOT / "docker-compose.yml").read_text().split("\n  server:\n")
    for name, value in MALLOC.items():
        assert f"\n      {name}: {value}" in db
        assert name not in server, "there, the server tells its worker"
