"""`init/` has a number, and a lower one never replaces a higher."""

import logging
import re
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from server.engines.postgres.install import INIT, install
from tests.sql.session import Session
from tests.sql.test_install import run

FILES = sorted(INIT.glob("*.sql"))
CONSTANT = re.compile(r"(?<=v_number constant integer := )\d+")
NUMBER = int(CONSTANT.findall("".join(path.read_text() for path in FILES))[0])


def version(directory: Path, number: int) -> Path:
    """Make the files of another version, in which `queue.heads` answers with its number."""
    directory.mkdir()
    for path in FILES:
        text = CONSTANT.sub(str(number), path.read_text())
        if path.name == "50_fetch_ack.sql":
            old = "select t.topic, t.head from queue.topics t where t.topic = any (p_topics)"
            assert old in text
            text = text.replace(old, f"select 'version', {number}::bigint")
        (directory / path.name).write_text(text)
    return directory


def in_force(sql: Session) -> list[tuple[object, ...]]:
    return sql.rows("select * from queue.heads('{}')")


def test_the_number_is_kept_with_the_digest(sql: Session) -> None:
    assert NUMBER > 0
    assert sql.value("select queue.number()") == NUMBER
    assert sql.rows("select number, digest from queue.installation") == [
        sql.row("select number, digest from queue.applied()")
    ]


def test_an_older_server_leaves_newer_functions_alone(
    dsn: str, sql: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = version(tmp_path / "a", NUMBER - 1), version(tmp_path / "b", NUMBER + 1)
    with caplog.at_level(logging.INFO):
        assert [install(dsn, older), in_force(sql)] == [False, []]
        (said,) = caplog.messages
        assert f"has number {NUMBER} of init/" in said and f"of number {NUMBER - 1}, do not" in said
        assert [install(dsn, newer), in_force(sql)] == [True, [("version", NUMBER + 1)]]
        assert [install(dsn), install(dsn, older), install(dsn, newer)] == [False] * 3
        assert len(caplog.messages) == 3
    assert in_force(sql) == [("version", NUMBER + 1)]
    rows = sql.rows("select number from queue.installation order by installed_at")
    assert rows == [(NUMBER,), (NUMBER + 1,)]


def test_a_version_that_was_applied_by_hand_has_its_number_too(
    dsn: str, sql: Session, tmp_path: Path
) -> None:
    newer = version(tmp_path / "b", NUMBER + 1)
    run(dsn, *(path.read_text() for path in sorted(newer.glob("*.sql"))))
    assert sql.row("select * from queue.applied()") == (NUMBER + 1, None)
    assert install(dsn) is False
    with pytest.raises(psycopg2.DatabaseError, match=f"has number {NUMBER + 1} of init/"):
        run(dsn, *(path.read_text() for path in FILES))
    assert in_force(sql) == [("version", NUMBER + 1)]
    assert [install(dsn, newer), install(dsn, newer), install(dsn)] == [True, False, False]


def test_the_number_comes_with_a_dump_of_the_schema_alone(
    dsn: str, sql: Session, tmp_path: Path
) -> None:
    sql.run("truncate queue.installation")
    assert install(dsn, version(tmp_path / "a", NUMBER - 1)) is False
    assert in_force(sql) == []
    assert install(dsn) is True


def test_a_mere_user_with_an_older_server_is_told_the_same(
    dsn: str, sql: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sql.run("create role bob login in role queue_app")
    try:
        assert install(make_dsn(dsn, user="bob"), version(tmp_path / "a", NUMBER - 1)) is False
        assert caplog.messages == []  # nothing to warn of
        assert install(make_dsn(dsn, user="bob"), version(tmp_path / "b", NUMBER + 1)) is False
        assert "grant queue_owner to bob" in caplog.messages[0]
    finally:
        sql.run("drop role bob")
    assert in_force(sql) == []


def test_a_server_from_before_there_was_a_number_replaces_nothing(dsn: str, sql: Session) -> None:
    """It asks for a digest and applies its files when it is not theirs; tests/upgrade has the real one."""
    ask = "select queue.installed(), pg_has_role(current_user, 'queue_owner', 'member')"
    with pytest.raises(
        psycopg2.DatabaseError, match="is newer than this server: start a newer one"
    ):
        run(dsn, ask)
    own = "create or replace function queue.installed() returns text language sql as $$ select 'old' $$"
    with pytest.raises(psycopg2.errors.InvalidFunctionDefinition):
        run(dsn, own)
    sql.run("create role bob login in role queue_app")
    try:
        run(make_dsn(dsn, user="bob"), ask)
    finally:
        sql.run("drop role bob")
