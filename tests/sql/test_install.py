"""Installing: twice, by hand, by several processes at once, under traffic, by a mere owner."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection, make_dsn

from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.install import INIT, install
from tests.sql.session import Session
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(INIT.glob("*.sql"))
ROLES = ("queue_owner", "queue_app", "queue_ro")
INSTALLER = """
import sys
from server.engines.postgres.install import install
print("ready", flush=True)
input()
print(install(sys.argv[1]))
"""


@pytest.fixture
def fresh(directory: Path, pg_bin: Path | None) -> Iterator[EmbeddedPostgres]:
    """A cluster of the test's own, in which nothing was ever installed: not even the roles."""
    fast = {"fsync": "off", "full_page_writes": "off"}
    with EmbeddedPostgres(directory, bin_dir=pg_bin, settings=fast) as postgres:
        yield postgres


def others(directory: Path) -> None:
    """Make other files of init/: a developer's, who has added a function."""
    for path in FILES:
        (directory / path.name).write_text(path.read_text())
    more = "create or replace function queue.more() returns int language sql as 'select 1'"
    (directory / "95_more.sql").write_text(more)


def run(dsn: str, *statements: str) -> None:
    with closing(psycopg2.connect(dsn)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def applied_by_hand(dsn: str) -> bool:
    """Apply the files one by one, whether they were before or not; False when a lock was not to be had."""
    try:
        run(dsn, "set lock_timeout = '300ms'", *(path.read_text() for path in FILES))
    except psycopg2.errors.LockNotAvailable:
        return False
    return True


def installed_again(dsn: str) -> bool:
    """Install as a server does when the files have changed."""
    run(dsn, "truncate queue.installation")
    return install(dsn)


@contextmanager
def installer(dsn: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", INSTALLER, dsn],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def install_at_once(dsns: list[str]) -> list[str]:
    """Install from as many processes, at the same time; return what each printed."""
    with ExitStack() as stack:
        processes = [stack.enter_context(installer(dsn)) for dsn in dsns]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return [process.communicate(timeout=60)[0].strip() for process in processes]


def test_the_second_install_does_nothing(dsn: str, sql: Session) -> None:
    before = sql.rows("select digest, installed_at from queue.installation")
    assert [digest for digest, _ in before] == [sql.value("select digest from queue.applied()")]
    assert install(dsn) is False  # the template was installed already
    assert sql.rows("select digest, installed_at from queue.installation") == before


def test_a_function_that_was_replaced_is_kept(dsn: str, sql: Session) -> None:
    sql.run("create or replace function queue.heads(p_topics text[]) returns table (topic text, head bigint) "
            "language sql as $$ select 'mine', 42::bigint $$")  # fmt: skip
    assert install(dsn) is False
    assert sql.row("select * from queue.heads('{}')") == ("mine", 42)


def test_other_files_are_installed(dsn: str, sql: Session, tmp_path: Path) -> None:
    others(tmp_path)
    assert [install(dsn, tmp_path), install(dsn, tmp_path), install(dsn), install(dsn)] == [
        True,
        False,
        True,
        False,
    ]
    assert sql.value("select queue.more()") == 1
    assert sql.value("select count(*) from queue.installation") == 3


def test_a_server_from_before_goes_on_with_the_functions_of_now(dsn: str, sql: Session) -> None:
    """It has prepared its calls, with as many arguments as the functions had."""
    sql.run("select queue.create_topic('orders')", "select queue.publish_batch('orders', '[1,2,3]')",
            "select queue.subscribe('orders', 'billing', 'earliest')")  # fmt: skip
    calls = {}
    for function in ("fetch", "fetch_json"):
        source = sql.value(f"select pg_get_functiondef('queue.{function}'::regproc)")
        sql.run(f"drop function queue.{function}")
        before = source.replace(", p_epoch bigint DEFAULT NULL::bigint", "").replace(
            ", p_epoch)", ")"
        )
        assert before != source and "p_epoch" not in before
        sql.run(before)
        calls[function] = f"execute old_{function}('orders', 'billing', 9, 1)"
        sql.run(f"prepare old_{function} as select * from queue.{function}($1, $2, $3, $4)")
    seen = {function: sql.rows(call) for function, call in calls.items()}
    assert installed_again(dsn)
    assert {function: sql.rows(call) for function, call in calls.items()} == seen
    assert sql.value("select count(*) from pg_proc where proname in ('fetch', 'fetch_json')") == 2
    assert sql.value("select count(*) from pg_proc where proname like 'fetch%\\_before'") == 2
    assert installed_again(dsn)
    assert sql.value("select count(*) from pg_proc where proname like 'fetch%\\_before'") == 0
    assert sql.value("select count(*) from queue.fetch('orders', 'billing', p_epoch => 0)") == 3


def test_a_broken_file_leaves_everything_as_it_was(dsn: str, sql: Session, tmp_path: Path) -> None:
    (tmp_path / "10_a.sql").write_text("drop view queue.messages")
    (tmp_path / "20_b.sql").write_text("select 1 / 0")
    with pytest.raises(psycopg2.errors.DivisionByZero):
        install(dsn, tmp_path)
    assert sql.value("select count(*) from queue.messages") == 0
    assert install(dsn) is False


def test_four_processes_at_once_on_empty_databases(fresh: EmbeddedPostgres) -> None:
    """Two databases, since the roles belong to both; all of it three times, from nothing."""
    admin = make_dsn(fresh.dsn, dbname="postgres")
    databases = {name: make_dsn(fresh.dsn, dbname=name) for name in ("a", "b")}
    for _ in range(3):
        run(admin, *(f"create database {name}" for name in databases))
        answers = install_at_once([*databases.values()] * 2)
        assert [sorted(answers[::2]), sorted(answers[1::2])] == [["False", "True"]] * 2
        for dsn in databases.values():
            run(dsn, "select queue.create_topic('orders')", "select queue.publish('orders', '1')")
        run(
            admin,
            *(f"drop database {name}" for name in databases),
            *(f"drop role {role}" for role in ROLES),
        )


def test_four_processes_at_once_on_one_empty_database(fresh: EmbeddedPostgres) -> None:
    answers = install_at_once([fresh.dsn] * 4)
    assert sorted(answers) == ["False", "False", "False", "True"]


def test_the_owner_of_a_database_can_install_without_being_superuser(
    fresh: EmbeddedPostgres,
) -> None:
    run(fresh.dsn, "create role alice login createrole", "create database alices owner alice")
    dsn = make_dsn(fresh.dsn, dbname="alices", user="alice")
    assert install(dsn) is True
    assert applied_by_hand(dsn)
    run(dsn, "select queue.create_topic('orders')", "select queue.publish('orders', '1')")


def test_a_mere_user_of_the_queue_leaves_it_as_it_is(
    fresh: EmbeddedPostgres, tmp_path: Path
) -> None:
    assert install(fresh.dsn) is True
    run(fresh.dsn, "create role bob login in role queue_app")
    others(tmp_path)
    bob = make_dsn(fresh.dsn, user="bob")
    assert [install(bob), install(bob, tmp_path)] == [False, False]
    run(bob, "select queue.create_topic('orders')", "select queue.publish('orders', '1')")


class Traffic:
    """Subscribers that publish, fetch and ack until they are stopped, each in a thread of its own.

    A wait of a second for a lock is an error, as any other; an error ends its thread.
    """

    def __init__(self, connections: list[connection]) -> None:
        self.errors: list[BaseException] = []
        self.rounds = [0] * len(connections)
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number, own))
            for number, own in enumerate(connections)
        ]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(30)

    def goes_on(self) -> bool:
        """Wait until everybody has got through once more, or somebody failed; return which."""
        before = list(self.rounds)
        until(lambda: self.errors or all(map(int.__gt__, self.rounds, before)))
        return not self.errors

    def _work(self, number: int, session: connection) -> None:
        name = f"reader-{number}"
        try:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute("set lock_timeout = '1s'")
                while not self._done.is_set():
                    cursor.execute("select queue.subscribe('orders', %s)", (name,))
                    cursor.execute("select queue.publish('orders', '1')")
                    cursor.execute(
                        "select max(\"offset\"), max(epoch) from queue.fetch('orders', %s)", (name,)
                    )
                    cursor.execute(
                        "select queue.ack('orders', %s, %s, %s)", (name, *(cursor.fetchone() or ()))
                    )
                    cursor.execute("select queue.list_subscribers('orders')")
                    self.rounds[number] += 1
        except BaseException as error:
            self.errors.append(error)


@pytest.mark.parametrize(
    "again", [applied_by_hand, installed_again], ids=["by hand", "by a server"]
)
def test_applied_again_under_traffic(
    dsn: str, orders: Session, connect: Callable[[], connection], again: Callable[[str], bool]
) -> None:
    with Traffic([connect() for _ in range(3)]) as traffic:
        for _ in range(3):
            until(lambda: again(dsn), timeout=60)
            assert traffic.goes_on(), traffic.errors
    assert traffic.errors == []
    published = sum(traffic.rounds)
    assert published >= 9
    assert orders.row("select head, subscribers from queue.topics") == (published, 3)
    assert orders.value("select count(*) from queue.messages") == published


def test_control_a_lock_that_is_held_for_long_is_noticed(
    orders: Session, connect: Callable[[], connection]
) -> None:
    with Traffic([connect() for _ in range(3)]) as traffic:
        assert traffic.goes_on(), traffic.errors
        orders.run("begin", "lock table queue.message in access exclusive mode")
        until(lambda: len(traffic.errors) == 3)
        orders.run("rollback")
