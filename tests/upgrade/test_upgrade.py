"""From the version before to this one: under traffic, with both at work, out of a dump, and back again."""

import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from qlib.lab.history import History
from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.embedded_cluster import packaged_programs
from server.engines.postgres.install import install
from tests.server.answers import SETTINGS
from tests.server_process import ROOT, ServerProcess, end, serving
from tests.sql.test_install import run
from tests.sql.test_versions import CONSTANT
from tests.stress_process import stress, verdict_of
from tests.upgrade.before import take_out
from tests.upgrade.conftest import EVERY, Start
from tests.upgrade.crowd import TOPIC, Crowd, verdict

QUIET = f"/topics/{TOPIC}/subscribers/quiet"
IN_FORCE = (
    "select oid, xmin, prosrc from pg_proc where pronamespace = 'queue'::regnamespace order by 1"
)
# What an upgrade must never do: here to every position.
BROKEN = """
insert into queue.position (subscriber_id, move, "offset", epoch, cause)
select s.subscriber_id, s.move + 1, 0, s.epoch + 1, 'seek' from queue.subscribers s;
"""


def rows(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(dsn)) as session, session.cursor() as cursor:
        session.autocommit = True
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def numbered(server: ServerProcess) -> Any:
    """Publish a batch under the same number as ever; return the answer."""
    batch = {"payloads": ["n-1", "n-2"], "producer": "p", "sequence": 7}
    answer = server.call("POST", "/topics/numbered/messages", batch)
    assert answer.status_code == 201, answer.text
    return answer.json()


def begin(old: ServerProcess) -> Any:
    """Make what is there before the upgrade; return the subscriber that nobody moves."""
    for topic in (TOPIC, "numbered"):
        assert old.call("POST", "/topics", {"topic": topic}).status_code == 201
    assert numbered(old) | {"duplicate": False} == numbered(old) | {"duplicate": False}
    old.call("POST", f"/topics/{TOPIC}/subscribers", {"subscriber": "quiet"})
    return old.call("POST", f"{QUIET}/seek", {"offset": 0}).json()


def upgraded(
    serve: Start, old: ServerProcess, crowd: Crowd, root: Path
) -> tuple[ServerProcess, list[str]]:
    """Start a newer server beside the old one, under traffic through both; return it and the subscribers."""
    for name in ("old-1", "old-2"):
        crowd.publish(old.url, f"publisher-{name}")
        crowd.subscribe(old.url, name)
    assert crowd.goes_on()
    new = serve(root)
    assert "applied init/ to the database" in new.log
    assert crowd.goes_on()
    for name in ("new-1", "new-2"):
        crowd.publish(new.url, f"publisher-{name}")
        crowd.subscribe(new.url, name)
    assert crowd.goes_on()
    return new, ["old-1", "old-2", "new-1", "new-2"]


def leaves_alone(old: ServerProcess, before: Path) -> None:
    """Start a server beside newer functions: it goes on with them; before there were numbers it gives up."""
    old.start()
    if (before / "init" / "06_number.sql").exists():
        old.ready()
        assert "do not replace" in old.log
    else:
        assert old.wait() == 1
        assert "is newer than this server: start a newer one" in old.log


@EVERY
def test_an_upgrade_under_traffic_with_both_versions_at_work(
    before: Path, serve: Start, postgres: EmbeddedPostgres
) -> None:
    old = serve(before)
    quiet = begin(old)
    history = History()
    with Crowd(history) as crowd:
        new, subscribers = upgraded(serve, old, crowd, ROOT)
        third = serve(ROOT)  # there is nothing to be done any more
        assert "applied init/" not in third.log
        crowd.subscribe(third.url, "third")
        crowd.reset(new.url, 5)
        assert crowd.goes_on()
        crowd.reset(old.url, 3)
        assert crowd.goes_on()
        crowd.stop()
        found = verdict(history, new.url, [*subscribers, "third"])
        assert found.anomalies == (), found
    assert found.published > 100

    for server in (old, new, third):
        now = server.call("GET", QUIET).json()
        assert now["epoch"] == quiet["epoch"] + 2 and now["position"] == 3  # by the resets alone
        assert now["created_at"] == quiet["created_at"]
        assert numbered(server) == {"topic": "numbered", "first_offset": 1, "last_offset": 2, "count": 2,
                                    "duplicate": True}  # fmt: skip
    head = new.call("GET", f"/topics/{TOPIC}").json()["head"]
    assert found.published == head

    in_force = rows(postgres.dsn, IN_FORCE)
    assert old.stop() == 0
    leaves_alone(old, before)
    assert rows(postgres.dsn, IN_FORCE) == in_force
    assert new.healthy() and third.healthy()


def test_control_an_upgrade_that_moves_subscribers_is_caught(
    before: Path, serve: Start, tmp_path: Path
) -> None:
    for part in ("server", "init"):
        shutil.copytree(ROOT / part, tmp_path / "planted" / part)
    (tmp_path / "planted" / "init" / "95_broken.sql").write_text(BROKEN)
    old = serve(before)
    begin(old)
    history = History()
    with Crowd(history) as crowd:
        new, subscribers = upgraded(serve, old, crowd, tmp_path / "planted")
        crowd.stop()
        found = verdict(history, new.url, subscribers)
    assert {anomaly.name for anomaly in found.anomalies} & {"lost-ack", "phantom-position"}, found


@EVERY
def test_a_dump_of_the_version_before_is_served_by_this_one(
    before: Path, serve: Start, postgres: EmbeddedPostgres, pg_bin: Path | None, tmp_path: Path
) -> None:
    old = serve(before)
    quiet = begin(old)
    history = History()
    with Crowd(history) as crowd:
        crowd.publish(old.url, "publisher-old")
        crowd.subscribe(old.url, "kitchen")
        assert crowd.goes_on()
    kitchen = old.call("GET", f"/topics/{TOPIC}/subscribers/kitchen").json()
    assert old.stop() == 0

    programs, dump = pg_bin or packaged_programs(), tmp_path / "queue.dump"
    restored = make_dsn(postgres.dsn, dbname="restored")
    rows(postgres.dsn, "create database restored")
    subprocess.run([programs / "pg_dump", "-Fc", "-f", dump, "-d", postgres.dsn], check=True)
    subprocess.run([programs / "pg_restore", "-d", restored, dump], check=True)

    new = serve(ROOT, restored)
    assert "applied init/ to the database" in new.log
    assert new.call("GET", QUIET).json() == SETTINGS | quiet | {
        "head": kitchen["head"],
        "lag": kitchen["head"],
    }
    assert new.call("GET", f"/topics/{TOPIC}/subscribers/kitchen").json() == SETTINGS | kitchen
    history = History(history.operations)
    with Crowd(history) as crowd:
        crowd.publish(new.url, "publisher-new")
        crowd.subscribe(new.url, "kitchen")
        assert crowd.goes_on()
        crowd.stop()
        found = verdict(history, new.url, ["kitchen"])
    assert found.anomalies == (), found
    assert found.published == new.call("GET", f"/topics/{TOPIC}").json()["head"] > kitchen["head"]
    assert numbered(new)["duplicate"] is True


@EVERY
def test_a_data_directory_of_the_version_before_is_served_by_this_one(
    before: Path, directory: Path, tmp_path: Path
) -> None:
    data = ("--data", str(directory / "data"))
    with serving(ServerProcess(tmp_path / "old.log", *data, root=before)) as old:
        quiet = begin(old)
    with serving(ServerProcess(tmp_path / "new.log", *data)) as new:
        assert "applied init/ to the database" in new.log
        assert new.call("GET", QUIET).json() == SETTINGS | quiet
        assert numbered(new)["duplicate"] is True
    leaves_alone(old, before)
    end(old)
    with serving(new):
        assert new.call("GET", QUIET).json() == SETTINGS | quiet


def test_clients_of_the_version_before_go_on_with_this_one(before: Path, serve: Start) -> None:
    new = serve(ROOT)
    flags = ("--seconds", "2", "--publishers", "2", "--subscribers", "2", "--resets")
    with stress(new.url, *flags, root=before) as run:
        published, delivered = verdict_of(run)
    assert published > 100 and delivered >= published


@pytest.mark.parametrize("user, rights", [
    ("server", ["create role server login in role queue_owner"]),  # as in Docker Compose
    ("alice", ["create role alice login createrole", "alter database queue owner to alice",
               "grant queue_owner to alice with admin option"]),
])  # fmt: skip
def test_who_is_no_superuser_can_upgrade_what_was_applied_by_hand(
    before: Path, postgres: EmbeddedPostgres, user: str, rights: list[str]
) -> None:
    files = sorted((before / "init").glob("*.sql"))
    run(postgres.dsn, *(path.read_text() for path in files), *rights)
    dsn = make_dsn(postgres.dsn, user=user)
    assert [install(dsn), install(dsn)] == [True, False]
    run(dsn, "select queue.create_topic('a')", "select queue.publish('a', '1')")
    owners = """
        select distinct relowner::regrole::text from pg_class where relnamespace = 'queue'::regnamespace
        union select proowner::regrole::text from pg_proc where pronamespace = 'queue'::regnamespace"""
    assert rows(dsn, owners) == [("queue_owner",)]


@EVERY
def test_a_view_on_a_function_that_has_changed_goes_on(
    before: Path, postgres: EmbeddedPostgres
) -> None:
    run(postgres.dsn, *(path.read_text() for path in sorted((before / "init").glob("*.sql"))),
        "select queue.create_topic('t'), queue.create_topic('u')", "select queue.subscribe('t', 's')",
        "create view mine as select count(*) from queue.fetch('t', 's', 5)")  # fmt: skip
    for _ in range(2):
        run(postgres.dsn, "truncate queue.installation", "select queue.publish('t', '1')")
        assert install(postgres.dsn) is True
    assert rows(postgres.dsn, "select * from mine") == [(2,)]


def test_files_go_through_one_psql(
    before: Path, postgres: EmbeddedPostgres, pg_bin: Path | None, tmp_path: Path
) -> None:
    """As the README has it; and older ones, too, which stop at once and change nothing."""
    psql = (pg_bin or packaged_programs()) / "psql"
    command = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-1", "-f", "-", postgres.dsn]

    def applied(tree: Path) -> subprocess.CompletedProcess[str]:
        text = "".join(path.read_text() for path in sorted((tree / "init").glob("*.sql")))
        return subprocess.run(command, input=text, capture_output=True, text=True)

    for tree in (before, ROOT):
        assert applied(tree).returncode == 0
    in_force = rows(postgres.dsn, IN_FORCE)
    older = applied(before)
    assert older.returncode == 3
    assert rows(postgres.dsn, IN_FORCE) == in_force
    assert install(postgres.dsn) is True  # which files these were only a server can tell


def number_and_files(tree: Path) -> tuple[int, list[tuple[str, str]]]:
    files = [(path.name, path.read_text()) for path in sorted((tree / "init").glob("*.sql"))]
    numbers = CONSTANT.findall("".join(text for _, text in files))
    return int(numbers[0]) if numbers else 0, files


def test_other_files_have_a_higher_number(before: Path) -> None:
    old_number, old_files = number_and_files(before)
    number, files = number_and_files(ROOT)
    assert number > old_number if files != old_files else number == old_number


def test_a_commit_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        LookupError, match="is not in this clone: get the whole history, by `git fetch --unshallow`"
    ):
        take_out("0" * 40, tmp_path)  # fmt: skip
