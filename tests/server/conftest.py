"""Every test of the contract runs twice: with the hot routes, and with Flask for all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.install import install
from tests.conftest import database
from tests.server.working import Crew
from tests.server_process import ServerProcess, serving


@pytest.fixture(scope="session", params=["server", "tests.flask_alone"])
def server(
    request: pytest.FixtureRequest,
    cluster: EmbeddedPostgres,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    """One server for all tests that only use topics of their own."""
    log = tmp_path_factory.mktemp("server") / "log"
    with (
        database(cluster, template) as dsn,
        serving(ServerProcess(log, program=request.param, database_url=dsn)) as process,
    ):
        yield process


@pytest.fixture
def postgres(directory: Path, pg_bin: Path | None) -> Iterator[EmbeddedPostgres]:
    """A durable cluster of the test's own, with init/ applied."""
    with EmbeddedPostgres(directory / "data", bin_dir=pg_bin) as started:
        assert install(started.dsn)
        yield started


@pytest.fixture
def crew(server: ServerProcess, topic: str) -> Crew:
    """The workers of a subscriber that has ten messages before it."""
    made = Crew(server, topic)
    made.publish(10)
    made.subscribe()
    return made
