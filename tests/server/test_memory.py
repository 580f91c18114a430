"""The processes that carry messages are told what memory to keep: the worker, PostgreSQL, and that of the stack."""

from collections.abc import Callable
from pathlib import Path

from server.embedded import EmbeddedPostgres
from server.memory import MALLOC
from tests.server_process import ROOT, ServerProcess


def told(pid: int | None) -> dict[str, str]:
    """Return what a process was told about malloc when it began."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(name.split("=", 1) for name in variables if name.startswith("MALLOC_"))


def test_the_worker_is_told(start_server: Callable[[], ServerProcess]) -> None:
    server = start_server()
    assert told(server.worker()) == MALLOC
    assert told(server.pid) == {}, "else nothing is seen above"


def test_embedded_postgres_is_told(directory: Path, pg_bin: Path | None) -> None:
    with EmbeddedPostgres(directory / "data", bin_dir=pg_bin) as postgres:
        assert told(postgres.pid) == MALLOC


def test_postgres_in_the_stack_is_told() -> None:
    composed = (ROOT / "docker-compose.yml").read_text()
    assert [name for name in MALLOC if f"{name}: {MALLOC[name]}" not in composed] == []
