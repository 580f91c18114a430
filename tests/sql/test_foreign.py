"""A schema `queue` that is somebody else's is left alone; so is what others keep in ours."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.install import INIT, InstallError, install
from tests.conftest import database
from tests.server_process import ServerProcess
from tests.sql.session import Session
from tests.sql.test_install import applied_by_hand, installed_again, run

TRAP = "create function queue.{}() returns text language plpgsql as $$ begin raise 'called'; end $$"
FOREIGN = {
    "empty": [],
    "other tables": ["create table queue.orders (id int)", "insert into queue.orders values (1)"],
    "a table of our name": ["create table queue.topic (id int, title text)"],
    "a table of our name and some of its columns": [
        "create table queue.topic (topic_id uuid, name text, description text, created_at timestamptz)"
    ],
    "a view of our name": [
        "create view queue.topic as select 1 topic_id, 'a' name, '' description, now() created_at, 1 as floor"
    ],
    "subscribers": ["create table queue.subscriber (subscriber_id int, topic_id int, name text, created_at date)"],
    "functions of our names": [TRAP.format(name) for name in ("installed", "applied", "number")],
}  # fmt: skip
HALF = {
    "topic": "alter table queue.topic drop column floor cascade",
    "position": "drop table queue.position cascade; create table queue.position (id int)",
    "topics": "drop view queue.topics cascade; create table queue.topics (topic text)",
    "installation": "drop table queue.installation; create table queue.installation (id int)",
}
CATALOG = """
select 'schema', nspname::text, nspowner::regrole::text, nspacl::text, obj_description(oid) from pg_namespace
where nspname = 'queue'
union all select 'relation', relname, relowner::regrole::text, relacl::text, obj_description(oid) from pg_class
where relnamespace = 'queue'::regnamespace
union all select 'function', oid::regprocedure::text, proowner::regrole::text, proacl::text, null from pg_proc
where pronamespace = 'queue'::regnamespace
union all select 'type', typname, typowner::regrole::text, typacl::text, null from pg_type
where typnamespace = 'queue'::regnamespace
union all select 'column', attrelid::regclass::text, attname, atttypid::regtype::text, null from pg_attribute
where attrelid in (select oid from pg_class where relnamespace = 'queue'::regnamespace)
union all select 'role', rolname, null, null, null from pg_roles where rolname !~ '^pg_'
order by 1, 2, 3, 4
"""


@pytest.fixture
def theirs(cluster: EmbeddedPostgres) -> Iterator[str]:
    """A database with a schema `queue` of Alice's, in which she has let everybody look."""
    with database(cluster, "template1") as dsn:
        run(dsn, "create role alice", "create schema queue authorization alice",
            "grant usage on schema queue to public")  # fmt: skip
        yield dsn
        run(dsn, "drop owned by alice cascade", "drop role alice")


def catalog(dsn: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(dsn)) as session, session.cursor() as cursor:
        cursor.execute(CATALOG)
        return cursor.fetchall()


@pytest.mark.parametrize("made", FOREIGN.values(), ids=FOREIGN)
def test_somebody_elses_schema_is_left_alone(theirs: str, made: list[str]) -> None:
    run(theirs, "set role alice", *made)
    before = catalog(theirs)
    with pytest.raises(
        InstallError, match='^the schema "queue" of database test_.* belongs to something else'
    ):
        install(theirs)  # fmt: skip
    with pytest.raises(psycopg2.DatabaseError, match="belongs to something else"):
        applied_by_hand(theirs)
    assert catalog(theirs) == before


@pytest.mark.parametrize("name, change", HALF.items(), ids=HALF)
def test_a_schema_of_ours_with_something_foreign_in_our_place(
    dsn: str, name: str, change: str
) -> None:
    run(dsn, change)
    before = catalog(dsn)
    with pytest.raises(InstallError, match=rf"\(queue.{name} is not ours\)"):
        install(dsn)
    assert catalog(dsn) == before


def test_a_server_says_it_in_one_sentence_and_ends(theirs: str, tmp_path: Path) -> None:
    before = catalog(theirs)
    server = ServerProcess(tmp_path / "log", database_url=theirs)
    server.start()
    assert server.wait() == 1
    (line,) = server.log.splitlines()
    assert 'cannot start: the schema "queue" of database' in line
    assert "use another database, or rename that schema" in line
    assert catalog(theirs) == before


@pytest.mark.parametrize("count", range(1, len(list(INIT.glob("*.sql"))) + 1))
def test_one_that_was_applied_by_hand_is_ours(cluster: EmbeddedPostgres, count: int) -> None:
    """All of it, or only the first files."""
    with database(cluster, "template1") as dsn:
        run(dsn, *(path.read_text() for path in sorted(INIT.glob("*.sql"))[:count]))
        assert install(dsn) is True
        run(dsn, "select queue.create_topic('orders')", "select queue.publish('orders', '1')")


def test_one_without_comments_is_ours(dsn: str, sql: Session) -> None:
    sql.run("comment on schema queue is null", "comment on table queue.topic is 'mine'")
    assert installed_again(dsn) is True


THINGS = [
    "create table queue.notes (id int generated always as identity, text text)",
    "create view queue.latest as select * from queue.notes",
    "create materialized view queue.kept as select * from queue.notes",
    "create sequence queue.counter",
    "create type queue.colour as enum ('red')",
    "create function queue.mine() returns int language sql as 'select 1'",
    "create function queue.more(int) returns int language sql as 'select 1'",
    "grant execute on function queue.mine() to public",
    "revoke execute on function queue.more(int) from public",
    "grant select on queue.latest to public",
]


def test_what_others_keep_in_our_schema_is_theirs(dsn: str, sql: Session) -> None:
    sql.run("create role alice", "grant usage, create on schema queue to alice", "set role alice")
    sql.run(*THINGS, "reset role")
    try:
        before = catalog(dsn)
        assert len([row for row in before if "alice" in row]) >= len(THINGS) - 3
        assert installed_again(dsn) is True
        assert applied_by_hand(dsn)
        assert catalog(dsn) == before
        for control in (
            "grant select on all tables in schema queue to queue_ro",
            "revoke all on all functions in schema queue from public",
            "alter view queue.latest owner to queue_owner",
        ):
            sql.run(control)
            assert catalog(dsn) != before
            before = catalog(dsn)
    finally:
        sql.run("drop owned by alice cascade", "drop role alice")


def test_a_function_that_shares_a_name_with_one_of_ours_is_said(dsn: str, sql: Session) -> None:
    sql.run("create function queue.publish(int) returns int language sql as 'select 1'")
    before = catalog(dsn)
    with pytest.raises(InstallError, match='^function name "queue.publish" is not unique: rename'):
        installed_again(dsn)
    assert catalog(dsn) == before
    sql.run("alter function queue.publish(int) rename to mine")
    assert installed_again(dsn) is True
