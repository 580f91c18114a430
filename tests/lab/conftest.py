"""A database of the test's own as the one that the lab looks at; no figure is left open."""

import threading
from collections.abc import Callable, Iterator

import matplotlib
import pytest
from matplotlib import pyplot
from psycopg2.extensions import connection

from qlib.lab.stack import choice, names
from qlib.marks import disposable
from qlib.process import OfProcess
from tests.waiting import until

matplotlib.use("agg")


@pytest.fixture
def queue_dsn(dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test's database, in $QUEUE_DSN."""
    monkeypatch.setenv("QUEUE_DSN", dsn)
    return dsn


@pytest.fixture(autouse=True)
def nothing_is_disposable() -> Iterator[None]:
    """Forget which topics a test has kept fresh, and which queue it has taken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "_at_hand", None)
        patch.setattr(names, "_databases", OfProcess(names._Databases()))
        yield
    disposable.clear()


@pytest.fixture(autouse=True, scope="session")
def no_private_queue_is_left() -> Iterator[None]:
    """End the one that a test of this session has taken, if any."""
    yield
    if choice._private:
        choice._private.stop()


@pytest.fixture(autouse=True)
def no_figure_is_left() -> Iterator[None]:
    """Close what a test has drawn."""
    yield
    pyplot.close("all")


@pytest.fixture
def nothing_leaks(queue_dsn: str, connect: Callable[[], connection]) -> Iterator[None]:
    """Check that a test leaves no thread, and no connection or database but those of fixtures."""
    threads = threading.active_count()
    watcher = connect()
    watcher.autocommit = True

    def left() -> list[tuple[str]]:
        with watcher.cursor() as cursor:
            cursor.execute(
                "select application_name from pg_stat_activity where application_name <> ''"
                " union select datname from pg_database where datname ~ '^queue_scratch_'"
            )
            return cursor.fetchall()

    before = left()
    yield
    until(lambda: left() == before)
    until(lambda: threading.active_count() == threads)
