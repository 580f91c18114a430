"""The version before, a cluster, and servers of either version."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from server.engines.postgres.embedded import EmbeddedPostgres
from tests.server_process import ServerProcess, end
from tests.upgrade.before import BEFORE, NUMBERLESS, take_out

EVERY = pytest.mark.parametrize(
    "before", [BEFORE, NUMBERLESS], ids=["before", "numberless"], indirect=True
)


class Start(Protocol):
    def __call__(self, root: Path, dsn: str = "") -> ServerProcess: ...


@pytest.fixture(scope="session")
def before(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the version before; with ``EVERY`` of an older one, too."""
    return take_out(getattr(request, "param", BEFORE), tmp_path_factory.mktemp("before"))


@pytest.fixture
def postgres(directory: Path, pg_bin: Path | None) -> Iterator[EmbeddedPostgres]:
    """A cluster of the test's own in which nothing was ever installed."""
    fast = {"fsync": "off", "full_page_writes": "off"}
    with EmbeddedPostgres(directory, bin_dir=pg_bin, settings=fast) as postgres:
        yield postgres


@pytest.fixture
def serve(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Start]:
    """Start a server out of a tree; in the end nothing is left of any."""
    with ExitStack() as stack:

        def start(root: Path, dsn: str = "") -> ServerProcess:
            log = tmp_path / f"{len(list(tmp_path.glob('*.log')))}.log"
            server = ServerProcess(log, root=root, database_url=dsn or postgres.dsn)
            server.start()
            stack.callback(end, server)
            server.ready()
            return server

        yield start
