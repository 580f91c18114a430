"""Who may apply `init/`, and what is said to those who may not; and a queue that was restored by another owner."""

from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.install import InstallError, install
from tests.server_process import ServerProcess
from tests.sql.session import only
from tests.sql.test_install import ROLES, fresh, others, run

__all__ = ["fresh"]

OWNER = "select nspowner::regrole::text from pg_namespace where nspname = 'queue'"


@pytest.fixture
def restored(fresh: EmbeddedPostgres, tmp_path: Path) -> EmbeddedPostgres:
    """A queue as `pg_restore --no-owner` leaves it to Alice, and the files of a newer one."""
    install(fresh.dsn)
    run(fresh.dsn, "create role alice login", "alter database queue owner to alice", "create role bob login",
        "reassign owned by queue_owner to alice")  # fmt: skip
    others(tmp_path)
    return fresh


def without_roles(postgres: EmbeddedPostgres) -> None:
    """Leave the roles behind, as a dump does that is restored into another cluster."""
    for role in ROLES:
        run(postgres.dsn, f"drop owned by {role}", f"drop role {role}")


def owner(postgres: EmbeddedPostgres) -> str:
    with closing(psycopg2.connect(postgres.dsn)) as session, session.cursor() as cursor:
        cursor.execute(OWNER)
        return str(only(cursor.fetchall())[0])


@pytest.mark.parametrize("user, said, remedies", [
    ("alice", "grant queue_owner to alice", ["grant queue_owner to alice"]),
    ("bob", "grant alice to bob; grant queue_owner to bob", ["grant alice to bob", "grant queue_owner to bob"]),
])  # fmt: skip
def test_the_grant_that_is_missing_is_said_and_helps(
    restored: EmbeddedPostgres, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    user: str, said: str, remedies: list[str],
) -> None:  # fmt: skip
    dsn = make_dsn(restored.dsn, user=user)
    assert install(dsn, tmp_path) is False
    assert f"let a superuser say `{said}`, or apply it" in caplog.messages[0]
    assert [owner(restored), len(caplog.messages)] == ["alice", 1]
    run(restored.dsn, *remedies)
    assert install(dsn, tmp_path) is True
    assert [owner(restored), len(caplog.messages)] == ["queue_owner", 1]
    assert install(dsn, tmp_path) is False
    run(dsn, "select queue.create_topic('orders')", "select queue.more()")


def test_roles_that_are_missing_are_said(
    restored: EmbeddedPostgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    without_roles(restored)
    alice = make_dsn(restored.dsn, user="alice")
    assert install(alice, tmp_path) is False
    assert "`alter role alice createrole`" in caplog.messages[0]
    run(alice, "select queue.create_topic('orders')")  # it is served meanwhile
    run(restored.dsn, "alter role alice createrole")
    assert [install(alice, tmp_path), owner(restored)] == [True, "queue_owner"]


def test_the_same_version_restored_gets_its_roles_and_keeps_its_functions(
    restored: EmbeddedPostgres,
) -> None:
    without_roles(restored)
    heads = "create or replace function queue.heads(p_topics text[]) returns table (topic text, head bigint) " \
            "language sql security definer as $$ select 'mine', 42::bigint $$"  # fmt: skip
    run(restored.dsn, "set role alice", heads)
    assert [install(restored.dsn), owner(restored)] == [True, "queue_owner"]
    run(restored.dsn, "grant queue_app to bob")
    bob = make_dsn(restored.dsn, user="bob")
    assert [install(bob), install(restored.dsn)] == [False, False]
    run(bob, "select queue.publish('orders', '1') from queue.create_topic('orders')",
        "select 1 / (head - 41)::int from queue.heads('{}')")  # fmt: skip


def test_without_a_queue_and_without_rights_the_server_says_so_and_ends(
    fresh: EmbeddedPostgres, tmp_path: Path
) -> None:
    run(fresh.dsn, "create role bob login")
    bob = make_dsn(fresh.dsn, user="bob")
    with pytest.raises(InstallError, match="`alter role bob createrole; grant create on database"):
        install(bob)
    server = ServerProcess(tmp_path / "log", database_url=bob)
    server.start()
    assert server.wait() == 1
    (line,) = server.log.splitlines()
    assert "cannot start: there is no queue in this database, and" in line


def test_a_mere_user_is_told_of_a_newer_version_only(
    fresh: EmbeddedPostgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(fresh.dsn)
    run(fresh.dsn, "create role bob login in role queue_app")
    others(tmp_path)
    bob = make_dsn(fresh.dsn, user="bob")
    assert [install(bob), caplog.messages] == [False, []]
    assert install(bob, tmp_path) is False
    (said,) = caplog.messages
    assert said.endswith("let a superuser say `grant queue_owner to bob`, or apply it")
