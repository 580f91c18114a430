"""No call fails that is under way while the functions change, not even for the fraction of a millisecond."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.install import INIT, install
from tests.conftest import database
from tests.sql.session import Session
from tests.sql.test_install import installed_again, run
from tests.upgrade.conftest import EVERY
from tests.waiting import until

PREPARED = [
    "prepare fetching as select * from queue.fetch_json($1, $2, $3, $4)",
    "prepare acknowledging as select * from queue.ack($1, $2, $3, $4)",
    "prepare publishing as select p.* from queue.publish_batch($1, $2, $3, $4, $5, $6) p",
    "prepare looking as select * from queue.get_subscriber($1, $2)",
    "prepare heads as select * from queue.heads($1)",
]
CALLS = [
    "execute fetching('t', '{0}', 10, null)",
    "select * from queue.fetch('t', '{0}')",
    "select * from queue.subscribe('t', '{0}')",
    "execute acknowledging('t', '{0}', 0, {1})",
    "execute publishing('t', '[1]', null, null, null, null)",
    "execute looking('t', '{0}')",
    "select * from queue.list_subscribers('t')",
    "select * from queue.seek('t', '{0}', 0, null, true)",
    "execute heads('{{t}}')",
]
# An engine tries these again by itself, for they surely did nothing.
REPEATED = ("40001", "40P01", "0A000")


class Callers:
    """Sessions that call without a pause, as a busy server of the version before does."""

    def __init__(self, dsn: str, names: list[str]) -> None:
        self._dsn = dsn
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(name,)) for name in names]
        self.calls = dict.fromkeys(names, 0)
        self.errors: list[str] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(30)

    def go_on(self) -> bool:
        goals = {name: calls + 50 for name, calls in self.calls.items()}
        return until(lambda: all(self.calls[name] >= goal for name, goal in goals.items()), 60)

    def _call(self, name: str) -> None:
        with closing(psycopg2.connect(self._dsn)) as own, own.cursor() as cursor:
            own.autocommit = True
            for statement in PREPARED:
                cursor.execute(statement)
            cursor.execute("select epoch from queue.get_subscriber('t', %s)", (name,))
            ((epoch,),) = cursor.fetchall()
            while not self._stop.is_set():
                for call in CALLS:
                    try:
                        cursor.execute(call.format(name, epoch))
                    except psycopg2.Error as error:
                        if error.pgcode not in REPEATED:
                            self.errors.append(f"{error.pgcode} {error}")
                    self.calls[name] += 1


def prepare(dsn: str, before: Path, names: list[str]) -> None:
    """Apply the files of another version; make a topic with subscribers."""
    run(dsn, *(path.read_text() for path in sorted((before / "init").glob("*.sql"))),
        "select queue.create_topic('t')", *(f"select queue.subscribe('t', '{name}')" for name in names))  # fmt: skip


def errors_of_an_upgrade(dsn: str, before: Path) -> list[str]:
    """Upgrade, and apply the files once more, while others call; return their errors."""
    names = ["a", "b", "c"]
    prepare(dsn, before, names)
    callers = Callers(dsn, names)
    with callers.at_work():
        assert callers.go_on()
        assert install(dsn) is True
        assert callers.go_on()
        assert installed_again(dsn) is True
        assert callers.go_on()
    return callers.errors


@pytest.fixture
def empty(cluster: EmbeddedPostgres) -> Iterator[str]:
    """A database in which nothing was installed."""
    with database(cluster, "template1") as dsn:
        yield dsn


@EVERY
def test_no_call_fails_while_an_upgrade_commits(empty: str, before: Path) -> None:
    assert errors_of_an_upgrade(empty, before) == []


# It knows which function it means, and waits for a table of ours before it looks that one up.
WAITING = {"before": "subscribe('t', 'a')", "numberless": "fetch('t', 'a')"}


def outcome_of_a_call_that_waits(dsn: str, before: Path, files: Path, call: str) -> Any:
    """Upgrade while a call waits; return how many rows it had, or its SQLSTATE."""
    prepare(dsn, before, ["a"])
    run(dsn, "create table gate ()")
    with ExitStack() as opened:
        holder, caller = (
            opened.enter_context(closing(Session(psycopg2.connect(dsn), psycopg2.connect(dsn))))
            for _ in range(2)
        )
        holder.run("begin", "lock table gate in access exclusive mode")
        caller.start(f"select count(*) from queue.{call} f, (select from gate limit 0) g")
        assert caller.waits_for(holder)
        assert install(dsn, files) is True
        holder.run("commit")
        return caller.outcome()


@EVERY
def test_a_call_that_waits_goes_on_with_what_it_found(
    empty: str, before: Path, request: pytest.FixtureRequest
) -> None:
    call = WAITING[request.node.callspec.id]
    assert outcome_of_a_call_that_waits(empty, before, INIT, call) == 0


@EVERY
def test_control_a_function_that_is_dropped_fails_a_call(
    empty: str, before: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for path in INIT.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    leaving = tmp_path / "07_leaving.sql"
    text = leaving.read_text()
    renamed = "alter function queue.%s rename to %s_before"
    assert renamed in text
    leaving.write_text(text.replace(renamed, "drop function queue.%s"))
    call = WAITING[request.node.callspec.id]
    assert outcome_of_a_call_that_waits(empty, before, tmp_path, call) == "XX000"
