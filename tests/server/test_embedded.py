"""The embedded PostgreSQL starts, is shared, comes back and stops, whoever is killed."""

import ctypes
import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from multiprocessing import get_context
from pathlib import Path

import psycopg2
import pytest

from server.engines.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tests.waiting import T, until

ROOT = Path(__file__).resolve().parents[2]
Make = Callable[..., EmbeddedPostgres]
Spawn = Callable[..., subprocess.Popen[str]]

# A server process, as far as PostgreSQL can see: it says when it is up, and goes at end of input.
SERVER = """
import sys
from pathlib import Path
from server.engines.postgres.embedded import EmbeddedPostgres
data, programs = sys.argv[1:]
with EmbeddedPostgres(Path(data), bin_dir=Path(programs) if programs else None):
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def nothing_is_left_running(directory: Path) -> Iterator[None]:
    """Expect every test to end without a process of PostgreSQL's in its directory."""
    yield
    until(lambda: not at_work_in(directory))


@pytest.fixture
def make(directory: Path, pg_bin: Path | None) -> Iterator[Make]:
    """Make an EmbeddedPostgres in ``directory``; each is stopped in the end."""
    with ExitStack() as made:

        def make_one(path: str = "data", **settings: str) -> EmbeddedPostgres:
            postgres = EmbeddedPostgres(directory / path, bin_dir=pg_bin, settings=settings)
            made.callback(postgres.stop)
            return postgres

        yield make_one


@pytest.fixture
def spawn(directory: Path, pg_bin: Path | None) -> Iterator[Spawn]:
    """Start SERVER in a process of its own, on ``directory / "data"``."""
    with ExitStack() as spawned:

        def spawn_one(**environment: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(directory / "data"), str(pg_bin or "")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**os.environ, **environment},
            )
            spawned.callback(process.communicate, timeout=60)
            return process

        yield spawn_one


def ask(dsn: str, statement: str) -> str:
    """Return the one value that a statement answers."""
    with closing(psycopg2.connect(dsn, connect_timeout=5)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(statement)
            (value,) = cursor.fetchone() or ("",)
    return str(value)


def answers(dsn: str) -> bool:
    """Whether PostgreSQL takes a connection."""
    try:
        return ask(dsn, "SELECT 1") == "1"
    except psycopg2.OperationalError:
        return False


def runs(pid: int | None) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def at_work_in(directory: Path) -> list[str]:
    """Return the processes that work in a directory or below it."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            found += [link.parent.name] * os.readlink(link).startswith(str(directory))
    return found


def starts(data: Path, pg_bin: Path | None) -> int:
    """Start and stop a cluster; return the user that its postmaster ran as."""
    with EmbeddedPostgres(data, bin_dir=pg_bin) as postgres:
        assert answers(postgres.dsn)
        return Path(f"/proc/{postgres.pid}").stat().st_uid


def comes_back_to_its_parent(data: Path, pg_bin: Path | None) -> bool:
    """As the parent of all orphans below, kill the postmaster and start it again."""
    set_child_subreaper = 36
    assert ctypes.CDLL(None).prctl(set_child_subreaper, 1) == 0
    with EmbeddedPostgres(data, bin_dir=pg_bin) as postgres:
        killed = postgres.pid
        assert f"PPid:\t{os.getpid()}\n" in Path(f"/proc/{killed}/status").read_text()
        kill(killed)
        postgres.start()
        return answers(postgres.dsn) and postgres.pid != killed


def become_ordinary() -> None:
    """Give up root's rights, if this is root."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)


def by_ordinary_user(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a process of an ordinary user, forked: root's Python may be private."""
    with ProcessPoolExecutor(1, get_context("fork"), become_ordinary) as pool:
        return pool.submit(function, *arguments).result(60)


def kill(pid: int | None) -> None:
    """Kill -9, and wait until it is dead."""
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not runs(pid))


def test_starts_and_stops(make: Make, directory: Path) -> None:
    postgres = make()
    assert postgres.pid is None
    postgres.start()
    pid = postgres.pid
    postgres.start()
    assert postgres.pid == pid, "a second start does nothing"
    assert str(pid) in at_work_in(directory), "else the fixture above sees nothing"
    assert ask(postgres.dsn, "SELECT current_database()") == "queue"
    assert ask((directory / "data/dsn").read_text(), "SELECT 1") == "1"
    postgres.stop()
    postgres.stop()
    assert not runs(pid)
    assert not answers(postgres.dsn)


def test_keeps_postgres_durable_defaults(make: Make) -> None:
    postgres = make()
    postgres.start()
    names = ["fsync", "full_page_writes", "synchronous_commit"]
    assert [ask(postgres.dsn, f"SHOW {name}") for name in names] == ["on"] * 3
    assert ask(postgres.dsn, "SHOW max_connections") == "100"
    assert ask(postgres.dsn, "SHOW server_encoding") == "UTF8"


def test_settings_are_passed(make: Make) -> None:
    postgres = make(fsync="off", application_name='it\'s a "test" $HOME')
    postgres.start()
    assert ask(postgres.dsn, "SHOW fsync") == "off"
    setting = "SELECT reset_val FROM pg_settings WHERE name = 'application_name'"
    assert ask(postgres.dsn, setting) == 'it\'s a "test" $HOME'


def test_is_reached_through_a_private_socket_only(make: Make, directory: Path) -> None:
    postgres = make()
    postgres.start()
    assert ask(postgres.dsn, "SHOW listen_addresses") == ""
    assert stat.S_IMODE((directory / "data/postgres").stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "data").stat().st_mode) in (0o700, 0o701)


def test_keeps_payloads_out_of_its_log(make: Make, directory: Path) -> None:
    postgres = make()
    postgres.start()
    with pytest.raises(psycopg2.DataError):
        ask(postgres.dsn, "SELECT 'a secret'::integer + length('another one')")
    with pytest.raises(psycopg2.DataError):
        ask(postgres.dsn, "SELECT '{\"hidden\": x}'::json")
    text = (directory / "data/postgres.log").read_text()
    assert "invalid input syntax for type json" in text
    assert "another one" not in text and "hidden" not in text


def test_the_second_start_adopts_and_the_last_stop_stops(make: Make) -> None:
    first, second = make(), make()
    first.start()
    second.start()
    pid = first.pid
    assert second.pid == pid and second.dsn == first.dsn
    first.stop()
    assert answers(second.dsn), "one user is left"
    second.stop()
    assert not runs(pid)


def test_data_outlives_a_stop(make: Make) -> None:
    with make() as first:
        ask(first.dsn, "CREATE TABLE kept AS SELECT 7 AS seven; SELECT 1")
    with make() as second:
        assert ask(second.dsn, "SELECT seven FROM kept") == "7"


def test_a_killed_postmaster_is_started_again(make: Make, directory: Path) -> None:
    postgres = make()
    postgres.start()
    postgres.supervise()
    dsn = postgres.dsn
    ask(dsn, "CREATE TABLE kept AS SELECT 0 AS n; SELECT 1")
    for n in range(1, 4):
        ask(dsn, f"INSERT INTO kept VALUES ({n}) RETURNING n")
        kill(postgres.pid)
        until(lambda: answers(dsn))
        assert ask(dsn, "SELECT count(*) FROM kept") == str(n + 1)
    assert (directory / "data/dsn").read_text() == dsn + "\n"


def test_waits_for_the_backends_of_a_killed_postmaster(make: Make, directory: Path) -> None:
    """As long as one is there, postmaster.pid refuses a new postmaster."""
    postgres = make()
    postgres.start()
    log = directory / "data/postgres.log"
    with closing(psycopg2.connect(postgres.dsn)) as session, ThreadPoolExecutor(1) as pool:
        backend = session.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        kill(postgres.pid)
        started = pool.submit(postgres.start)
        try:
            until(lambda: "still in use" in log.read_text())
        finally:
            os.kill(backend, signal.SIGCONT)
        started.result(30)
    assert answers(postgres.dsn)


def test_nobody_starts_it_again_unsupervised(make: Make) -> None:
    """The control of the test above: it fails without ``supervise``."""
    postgres = make()
    postgres.start()
    kill(postgres.pid)
    with pytest.raises(AssertionError, match="answers"):
        until(lambda: answers(postgres.dsn), timeout=2)


def test_a_lost_cluster_is_not_replaced_by_an_empty_one(make: Make, directory: Path) -> None:
    postgres = make()
    postgres.start()
    postgres.supervise()
    (directory / "data/postgres").rename(directory / "data/elsewhere")
    log = directory / "data/postgres.log"
    until(lambda: "is not accessible" in log.read_text() or "not exist" in log.read_text())
    assert not (directory / "data/postgres").exists()
    (directory / "data/elsewhere").rename(directory / "data/postgres")
    until(lambda: answers(postgres.dsn))


def test_two_supervisors_start_one_postmaster(make: Make) -> None:
    both = [make(), make()]
    for postgres in both:
        postgres.start()
        postgres.supervise()
    kill(both[0].pid)
    until(lambda: answers(both[0].dsn))
    assert both[0].pid == both[1].pid
    both[0].stop()
    assert answers(both[1].dsn)


def test_several_start_at_once(spawn: Spawn, make: Make) -> None:
    servers = [spawn() for _ in range(3)]
    assert [server.stdout.readline() for server in servers if server.stdout] == ["up\n"] * 3
    pid = make().pid
    for server in servers:
        assert runs(pid)
        server.communicate(timeout=60)
    assert not runs(pid)


def test_a_killed_servers_postgres_is_adopted(spawn: Spawn, make: Make) -> None:
    server = spawn()
    assert server.stdout and server.stdout.readline() == "up\n"
    postgres = make()
    pid = postgres.pid
    kill(server.pid)
    assert runs(pid)
    postgres.start()
    assert postgres.pid == pid
    postgres.stop()
    assert not runs(pid), "the killed server counts no more"


def test_the_callers_environment_does_not_leak(spawn: Spawn, make: Make) -> None:
    names = {"PGHOST": "nowhere", "PGPORT": "1", "PGUSER": "x", "PGOPTIONS": "-c no_such=1"}
    server = spawn(**names, PGDATA="/nowhere", LC_ALL="xx_XX.UTF-8")
    assert server.stdout and server.stdout.readline() == "up\n"
    postgres = make()
    assert answers(postgres.dsn)
    environment = Path(f"/proc/{postgres.pid}/environ").read_text()
    assert "LC_ALL=C\0" in environment and not any(f"{name}=" in environment for name in names)


def test_ctrl_c_reaches_the_server_alone(make: Make) -> None:
    postgres = make()
    postgres.start()
    assert os.getsid(postgres.pid or 0) != os.getsid(0)


def test_runs_for_an_ordinary_user(directory: Path, pg_bin: Path | None) -> None:
    user = by_ordinary_user(os.geteuid)
    os.chown(directory, user, -1)
    assert by_ordinary_user(starts, directory / "data", pg_bin) == user
    assert stat.S_IMODE((directory / "data").stat().st_mode) == 0o700, "nothing is opened"


def test_a_dead_child_is_reaped(directory: Path, pg_bin: Path | None) -> None:
    """A container's first process becomes the parent of the postmaster."""
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        assert pool.submit(comes_back_to_its_parent, directory / "data", pg_bin).result(60)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_runs_it_as_nobody(make: Make, directory: Path) -> None:
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    postgres = make()
    postgres.start()
    nobody = pwd.getpwnam("nobody").pw_uid
    assert Path(f"/proc/{postgres.pid}").stat().st_uid == nobody
    assert (directory / "data/postgres").stat().st_uid == nobody
    assert stat.S_IMODE(directory.stat().st_mode) == 0o701, "passing through, nothing else"


def test_a_long_path_moves_the_socket(make: Make) -> None:
    postgres = make("d" * 90)
    postgres.start()
    postgres.supervise()
    dsn = postgres.dsn
    socket = Path(psycopg2.extensions.parse_dsn(dsn)["host"])
    assert socket.parent == Path("/tmp") and stat.S_IMODE(socket.stat().st_mode) == 0o700
    kill(postgres.pid)
    until(lambda: answers(dsn))
    assert postgres.dsn == dsn, "a restart keeps the address"
    postgres.stop()
    assert not socket.exists()


def test_an_awkward_path(make: Make) -> None:
    postgres = make('it\'s, "a" $(path)')
    postgres.start()
    assert answers(postgres.dsn)


def test_an_unfinished_cluster_is_made_anew(make: Make, directory: Path) -> None:
    (directory / "data/postgres.new").mkdir(parents=True)
    (directory / "data/postgres.new/PG_VERSION").write_text("18\n")
    (directory / "data/start.lock").touch()
    postgres = make()
    postgres.start()
    assert answers(postgres.dsn)


def test_a_stale_pid_file_does_no_harm(make: Make, directory: Path) -> None:
    """The process that it names lives, yet is no PostgreSQL."""
    with make():
        lines = (directory / "data/postgres/postmaster.pid").read_text().splitlines()
    stale = directory / "data/postgres/postmaster.pid"
    stale.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with make() as postgres:
        assert postgres.pid != os.getpid()
        assert answers(postgres.dsn)


def refused(make: Make, words: str) -> None:
    """Expect a start to be refused with an error that says ``words``."""
    with pytest.raises(EmbeddedPostgresError, match=words):
        make().start()


def test_refuses_a_directory_of_something_else(make: Make, directory: Path) -> None:
    (directory / "data").mkdir()
    (directory / "data/thesis.txt").write_text("mine")
    refused(make, "is not empty")
    assert os.listdir(directory / "data") == ["thesis.txt"]


def test_refuses_what_is_no_cluster(make: Make, directory: Path) -> None:
    (directory / "data/postgres").mkdir(parents=True)
    (directory / "data/start.lock").touch()
    (directory / "data/postgres/thesis.txt").write_text("mine")
    refused(make, "not a PostgreSQL data directory")


def test_refuses_another_major_version(make: Make, directory: Path) -> None:
    with make():
        pass
    (directory / "data/postgres/PG_VERSION").write_text("9.6\n")
    refused(make, "was made by PostgreSQL 9.6; this is PostgreSQL 1")


def test_refuses_a_file(make: Make, directory: Path) -> None:
    (directory / "data").write_text("a file")
    refused(make, "cannot use")


def test_refuses_missing_programs(directory: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="No such file"):
        EmbeddedPostgres(directory / "data", bin_dir=directory).start()


def test_says_why_it_does_not_start(make: Make) -> None:
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        make(no_such_setting="1").start()


def test_refuses_a_directory_that_cannot_be_written(directory: Path, pg_bin: Path | None) -> None:
    directory.chmod(0o555)
    with pytest.raises(EmbeddedPostgresError, match=r"cannot use .* Permission denied"):
        by_ordinary_user(starts, directory / "data", pg_bin)
