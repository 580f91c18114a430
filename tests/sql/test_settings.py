"""What a role or a database may have set (`alter role … set`) changes nothing that the functions do."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import zip_longest

import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor

from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.install import INIT
from tests.conftest import database
from tests.sql.session import INLINED, Session, plant

Settings = dict[str, str]

# These mean what they say, to the functions as to everything else in the session.
MEANT = {
    "default_transaction_read_only",
    "transaction_read_only",
    "transaction_isolation",
    "transaction_deferrable",
    "exit_on_error",
}
IMPOSSIBLE = {"log_statement_stats"}  # not with the other statistics
TEXTS = {
    "datestyle": "SQL, DMY",
    "timezone": "Asia/Kolkata",
    "search_path": "nowhere",
    "plpgsql.extra_errors": "shadowed_variables, strict_multi_assignment",
    "extra_float_digits": "-15",
}  # fmt: skip
BATCH = r"""queue.publish_batch('t', $$["\\", "\"", "\u00e9", "'"]$$, array[null, $$k\$$, '''', 'é']::text[],
                                $$[{"h": "\n"}, null, {}, {"\\": "'"}]$$, $$p\$$, 1)"""
OFFSET = '"offset"'
CALLS = [
    "select topic, floor, head, created_at > '2000-01-01' from queue.create_topic('t', $$\\$$)",
    "select queue.create_topic('t')",
    "select queue.create_topic($$a'\\b$$)",
    "select topic, description from queue.list_topics()",
    "select queue.publish('t', '1', 'k', '{}')",
    f"select * from {BATCH}",
    f"select * from {BATCH}",
    "select queue.publish_batch('t', '[1]', null, null, $$p\\$$, 1)",
    r"""select queue.publish('t', $$"\u0000"$$)""",
    r"""select queue.publish('t', $$"\ud800"$$)""",
    "select queue.publish('t', '1', null, '[]')",
    "select queue.publish_batch('t', '[]')",
    "select queue.publish('t', '1', null, null, '', 1)",
    "begin isolation level repeatable read; select queue.publish('t', '2'); commit",
    "select created, (subscriber).lag from queue.subscribe('t', 's', 'earliest')",
    "select created from queue.subscribe('t', 's')",
    "select queue.subscribe('t', 'never', 'tomorrow')",
    "select (subscriber).position from queue.subscribe('t', 'late', null, null, '2000-01-01 00:00:00+00')",
    """select "offset", key, headers::text, payload::text, published_at > '2000-01-01' from queue.fetch('t', 's')""",
    "select regexp_replace(messages, '\"published_at\":\"2[0-9T:.-]{25}Z\"', '!', 'g') from queue.fetch_json('t', 's')",
    "select queue.fetch('t', 's', 1, 99)",
    "select position, head, lag from queue.ack('t', 's', 2, (select epoch from queue.get_subscriber('t', 's')))",
    "select queue.ack('t', 's', 99, (select epoch from queue.get_subscriber('t', 's')))",
    "select position, lag from queue.seek('t', 's', null, '-infinity')",
    "select * from queue.reset('t', 1)",
    "select subscriber, position from queue.list_subscribers('t')",
    "select payload::text from queue.browse('t', 2, 1)",
    "select left(messages, 10) from queue.browse_json('t', 2, 1)",
    "select * from queue.heads('{t}')",
    "select topic, subscriber, lag, lag_seconds between 0 and 60 from queue.lags() order by 2",
    "select max_attempts, backoff_seconds = 0.5 from queue.configure('t', 's', 2, 0.5)",
    "select max_attempts, backoff_cap_seconds = 3600, ordered from queue.settings('t', 's')",
    "select queue.configure('t', 's', 0)",
    f"select {OFFSET}, key, headers::text, payload::text, attempt from queue.lease('t', 's', $$w\\$$, 2)",
    "select lease, worker, offsets, attempt from queue.leases",
    "select regexp_replace(queue.leases_json('t', 's'), '2[0-9T:.-]{25}Z', '!', 'g')",
    "select nacked, dead from queue.nack('t', 's', (select lease from queue.lease('t', 's')), null, 0, $$\\'$$)",
    "select acked, position, lag from queue.ack_lease('t', 's', (select lease from queue.lease('t', 's', 'x')))",
    "select queue.ack_lease('t', 's', '1-1')",
    "select dead from queue.nack('t', 's', (select lease from queue.lease('t', 's')), '{9}')",
    "select queue.lease('t', 's', 'x', 0)",
    f"select {OFFSET}, reason, error from queue.list_dead('t', 's')",
    "select topic, subscriber, leased, delayed, dead, redeliveries from queue.workloads()",
    "select subscriber, act from queue.acts('{t,t}', '{s,x}')",
    "select queue.next_due('t', 's') > '2000-01-01'",
    "begin isolation level repeatable read; select count(*) from queue.lease('t', 's', 'x', 9); commit",
    "select redriven from queue.redrive('t', 's')",
    "select queue.unsubscribe('t', 's')",
    "select queue.unsubscribe('t', 's')",
    "select queue.tidy()",
    "select number, digest is null from queue.applied()",
    "select queue.delete_topic('t')",
    "select queue.get_topic('t')",
]  # fmt: skip


def others(sql: Session) -> dict[str, list[str]]:
    """Return the other values of each switch and choice that a role can have set."""
    sql.run("load 'plpgsql'")
    found = sql.rows("""
        select name, setting, case vartype when 'bool' then '{on,off}' else enumvals end from pg_settings
        where context in ('user', 'superuser') and vartype in ('bool', 'enum')""")
    return {
        name: [value for value in values if value != setting]
        for name, setting, values in found
        if name not in MEANT | IMPOSSIBLE
    }


def sets(sql: Session) -> Iterator[Settings]:
    """Yield sets of settings in which every setting has each of its other values once."""
    values = others(sql)
    assert len(values) > 60 and "standard_conforming_strings" in values
    for column in zip_longest(*values.values()):
        yield {name: value for name, value in zip(values, column, strict=True) if value} | TEXTS


@contextmanager
def session_with(dsn: str, settings: Settings) -> Iterator[Cursor]:
    """Open a session that begins with these settings, as one does whose role has them."""
    escaped = {name: value.replace(" ", r"\ ") for name, value in settings.items()}
    options = " ".join(f"-c {name}={value}" for name, value in escaped.items())
    with closing(psycopg2.connect(dsn, options=options)) as own, own.cursor() as cursor:
        own.autocommit = True
        yield cursor


def done_with(dsn: str, settings: Settings) -> list[object]:
    """Make all calls in a new session; return what each answered. The database is as it was then."""
    answers: list[object] = []
    with session_with(dsn, settings) as cursor:
        for call in CALLS:
            try:
                cursor.execute(call)
                answers.append(cursor.fetchall() if cursor.description else cursor.statusmessage)
            except psycopg2.Error as error:
                answers.append(
                    (error.pgcode, error.diag.message_primary, error.diag.message_detail)
                )
    return answers


def culprits(dsn: str, settings: Settings, usual: list[object]) -> Settings:
    """Return which of the settings change something by themselves."""
    found = {}
    for name, value in settings.items():
        with session_with(dsn, {}) as cursor:
            cursor.execute("select queue.delete_topic(topic), queue.tidy() from queue.topics")
        if done_with(dsn, {name: value}) != usual:
            found[name] = value
    return found


def test_no_setting_of_a_role_changes_what_the_functions_do(dsn: str, sql: Session) -> None:
    usual = done_with(dsn, {})
    refusals = [answer for answer in usual if isinstance(answer, tuple)]
    assert len(refusals) >= 10 and all(code.startswith("QL") for code, *_ in refusals), refusals
    for settings in sets(sql):
        if done_with(dsn, settings) != usual:
            assert culprits(dsn, settings, usual) == {}


def test_control_a_function_that_pins_nothing_is_caught(dsn: str, sql: Session) -> None:
    usual = done_with(dsn, {})
    for function in ("queue.publish_batch", "queue.check_escapes"):
        plant(sql, function, (" SET standard_conforming_strings TO 'on'\n", ""))
    off = {"standard_conforming_strings": "off"}
    assert culprits(dsn, off | {"array_nulls": "off"}, usual) == off


CAUGHT_WITHIN = "begin isolation level repeatable read; select queue.publish('orders', '1'); commit"


def test_an_error_that_a_function_catches_ends_no_session(dsn: str, orders: Session) -> None:
    with session_with(dsn, {"exit_on_error": "on"}) as cursor:
        cursor.execute(CAUGHT_WITHIN)
    assert orders.value("select head from queue.topics") == 1


def test_control_an_error_that_ends_the_session_is_noticed(dsn: str, orders: Session) -> None:
    plant(orders, "queue.check_snapshot", (" SET exit_on_error TO 'off'\n", ""))
    with (
        session_with(dsn, {"exit_on_error": "on"}) as cursor,
        pytest.raises(psycopg2.OperationalError, match="closed the connection"),
    ):
        cursor.execute(CAUGHT_WITHIN)


def test_every_function_pins_what_it_relies_on(sql: Session) -> None:
    functions = sql.rows("""
        select proname, prosrc, coalesce(proconfig, '{}') from pg_proc where pronamespace = 'queue'::regnamespace""")
    assert len(functions) > 30
    pins = {"search_path=pg_catalog, pg_temp", "standard_conforming_strings=on"}
    assert {name for name, _, settings in functions if not pins <= set(settings)} == INLINED
    assert [name for name, body, _ in functions if name in INLINED and "\\" in body] == []
    catching = {name for name, body, _ in functions if re.search(r"^\s*exception\b", body, re.M)}
    assert {"check_escapes", "check_snapshot"} <= catching
    assert {name for name, _, settings in functions if "exit_on_error=off" in settings} == catching


def test_init_can_be_applied_by_hand_by_a_role_with_any_settings(
    cluster: EmbeddedPostgres, sql: Session
) -> None:
    for settings in sets(sql):
        with database(cluster, "template1") as dsn:
            with session_with(dsn, settings) as cursor:
                for path in sorted(INIT.glob("*.sql")):
                    cursor.execute(path.read_text())
            assert done_with(dsn, {})[4] == [(1,)]
