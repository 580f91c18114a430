"""Roles: who may do what, and that nobody bends what the functions do."""

import json

import pytest

from tests.sql.session import INLINED, Session, plant, refused

PUBLIC_FUNCTIONS = {
    "ack", "acts", "applied", "browse", "browse_json", "count_subscribers", "create_topic", "delete_topic", "fetch",
    "fetch_json", "get_subscriber", "get_topic", "heads", "installed", "lags", "list_subscribers", "list_topics",
    "number", "publish", "publish_batch", "reset", "seek", "subscribe", "tidy", "unsubscribe",
    "ack_lease", "ack_leases", "configure", "dead_json", "extend", "lease", "lease_json", "lease_many", "leases_json",
    "list_dead", "list_leases", "nack", "next_due", "redrive", "remove_dead", "settings", "workloads",
}  # fmt: skip
RELATIONS = {
    "topic", "message", "subscriber", "position", "publication", "installation", "round", "topics", "messages",
    "subscribers", "crew", "hold", "settled", "extension", "turn", "dead", "holds", "leases", "dead_letters",
}  # fmt: skip
PRIVILEGES = ["select", "insert", "update", "delete", "truncate", "references", "trigger"]

MAY_CALL = """
select p.proname from pg_proc p
where pronamespace = 'queue'::regnamespace and has_function_privilege(%s, p.oid, 'execute')
"""
MAY_TOUCH = """
select c.relname, v from pg_class c, unnest(%s) v
where relnamespace = 'queue'::regnamespace and relkind in ('r', 'v') and has_table_privilege(%s, c.oid, v)
"""
# What is leased within the same statement is seen by the functions that come after it.
LEASED = "(select lease from queue.lease('t', 's'))"
CALLS = [
    "create_topic('t')", "get_topic('t')", "list_topics()", "publish('t', '1', 'k', '{}')",
    "publish_batch('t', '[2,3,4,5,6,7,8,9]', null, null, 'p', 1)",
    "subscribe('t', 's', 'earliest')", "get_subscriber('t', 's')",
    "list_subscribers('t')", "fetch('t', 's')", "fetch_json('t', 's')", "ack('t', 's', 1, 0)", "browse('t')",
    "browse_json('t')", "heads('{t}')", "lags()", "count_subscribers()", "reset('t', 0)", "seek('t', 's', 1)", "tidy()",
    "number()", "applied()", "installed()", "lease('t', 's')", "lease_many('t', 's', '{a}', '{1}', '{30}')",
    "lease_json('t', 's', '{a}', '{1}', '{30}')", "next_due('t', 's')", "list_leases('t', 's')",
    "leases_json('t', 's')", "acts('{t}', '{s}')",
    "workloads()", "settings('t', 's')", "configure('t', 's', 3)", "list_dead('t', 's')", "dead_json('t', 's')",
    "redrive('t', 's')", "remove_dead('t', 's')", f"ack_lease('t', 's', {LEASED})", f"extend('t', 's', {LEASED}, 9)",
    f"nack('t', 's', {LEASED})", f"ack_leases('t', 's', array[{LEASED}])",
    "unsubscribe('t', 's')", "delete_topic('t')",
]  # fmt: skip
FORBIDDEN = [
    "create table queue.mine (a int)", "create function queue.mine() returns int language sql as 'select 1'",
    "create or replace view queue.topics as select 1", "alter table queue.message add a int",
    "alter function queue.tidy(int) reset all", "drop function queue.tidy", "drop schema queue cascade",
    "drop table queue.message", "truncate queue.message", "insert into queue.topic (name) values ('t')",
    "insert into queue.topics (topic) values ('t')", "update queue.message set key = 'k'",
    "delete from queue.position", "alter schema queue rename to mine", "grant queue_owner to queue_app",
    "set role queue_owner", "comment on schema queue is 'mine'",
]  # fmt: skip


def act_as(sql: Session, role: str) -> None:
    sql.run(f"set session authorization {role}")


def test_the_owner_owns_everything_and_cannot_log_in(sql: Session) -> None:
    owners = sql.rows("""
        select owner::regrole::text, count(*) from (
            select nspowner from pg_namespace where nspname = 'queue'
            union all select relowner from pg_class where relnamespace = 'queue'::regnamespace
            union all select proowner from pg_proc where pronamespace = 'queue'::regnamespace
            union all select typowner from pg_type where typnamespace = 'queue'::regnamespace
        ) owned (owner) group by 1""")
    assert [owner for owner, _ in owners] == ["queue_owner"]
    assert owners[0][1] > len(PUBLIC_FUNCTIONS) + len(RELATIONS)
    roles = sql.rows(
        "select rolname, rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolbypassrls "
        "from pg_roles where rolname ~ '^queue_'"
    )
    assert sorted(roles) == [("queue_app", False), ("queue_owner", False), ("queue_ro", False)]


def test_everybody_may_do_just_that(sql: Session) -> None:
    sql.run("create role nobody_yet")
    try:
        for role, functions, touches in (("queue_app", PUBLIC_FUNCTIONS, set()), ("nobody_yet", set(), set()),
                                         ("queue_ro", set(), {(name, "select") for name in RELATIONS})):  # fmt: skip
            assert {name for (name,) in sql.rows(MAY_CALL, role)} == functions, role
            assert set(sql.rows(MAY_TOUCH, PRIVILEGES, role)) == touches, role
        usage = "select has_schema_privilege('nobody_yet', 'queue', 'usage, create')"
        assert sql.value(usage) is False
    finally:
        sql.run("drop role nobody_yet")


def test_queue_app_calls_every_function(sql: Session) -> None:
    assert {call.partition("(")[0] for call in CALLS} == PUBLIC_FUNCTIONS
    act_as(sql, "queue_app")
    for call in CALLS:
        sql.run(f"select * from queue.{call}")


def test_queue_app_does_nothing_else(orders: Session) -> None:
    act_as(orders, "queue_app")
    for statement in FORBIDDEN + [f"select 1 from queue.{name}" for name in RELATIONS]:
        with refused("42501"):
            orders.run(statement)
    for call in (
        "slice(1, 1, 1, 1)",
        "read_on('orders', 'billing', 1)",
        "lock_topic('orders')",
        "missing('orders')",
        "check_escapes('1')",
    ):
        with refused("42501", "permission denied for function"):
            orders.run(f"select queue.{call}")


def test_queue_ro_reads_and_does_nothing_else(orders: Session) -> None:
    act_as(orders, "queue_ro")
    for name in RELATIONS:
        orders.run(f"select * from queue.{name}")
    for statement in FORBIDDEN + [f"select queue.{call}" for call in CALLS]:
        with refused("42501"):
            orders.run(statement)


def test_a_function_that_is_added_is_not_everybodys(sql: Session) -> None:
    sql.run("set role queue_owner")
    sql.run("create function queue.added() returns int language sql as 'select 1'")
    act_as(sql, "queue_app")
    with refused("42501", "permission denied for function added"):
        sql.run("select queue.added()")


def test_the_functions_that_run_as_their_owner_fix_their_search_path(sql: Session) -> None:
    rows = sql.rows(
        "select proname, prosecdef, proconfig from pg_proc where pronamespace = 'queue'::regnamespace"
    )
    assert {name for name, definer, _ in rows if definer} == PUBLIC_FUNCTIONS - {
        "publish",
        "number",
        "installed",
    }
    fixed = {
        name for name, _, settings in rows if "search_path=pg_catalog, pg_temp" in (settings or [])
    }
    assert {name for name, *_ in rows} - fixed == INLINED


def test_everything_public_has_a_comment(sql: Session) -> None:
    comments = dict.fromkeys(("schema", "function", "relation", "column"), 0)
    for kind, name, comment in sql.rows("""
        select 'schema', nspname, obj_description(oid, 'pg_namespace') from pg_namespace where nspname = 'queue'
        union all select 'function', proname, obj_description(oid, 'pg_proc') from pg_proc
        where pronamespace = 'queue'::regnamespace
        union all select 'relation', relname, obj_description(oid, 'pg_class') from pg_class
        where relnamespace = 'queue'::regnamespace and relkind in ('r', 'v')
        union all select 'column', attrelid::regclass || '.' || attname, col_description(attrelid, attnum)
        from pg_attribute join pg_class c on c.oid = attrelid
        where relnamespace = 'queue'::regnamespace and relkind in ('r', 'v') and attnum > 0"""):
        assert comment, (kind, name)
        comments[kind] += 1
    assert comments["schema"] == 1
    assert comments["function"] >= len(PUBLIC_FUNCTIONS) and comments["relation"] == len(RELATIONS)
    assert comments["column"] >= 50


HOSTILE = """
create function public.evil(anyelement) returns text language sql as 'select ''evil''';
create function public.json_build_array(json) returns json language sql as $$ select '["evil"]'::json $$;
create function public.json_array_elements(json) returns setof json language sql as $$ select '"evil"'::json $$;
create function public.json_typeof(json) returns text language sql as $$ select 'evil' $$;
create function public.clock_timestamp() returns timestamptz language sql as $$ select '1999-01-01'::timestamptz $$;
create function public.pg_advisory_xact_lock(int, int) returns void language sql as $$ select $$;
create function public.never(bigint, bigint) returns boolean language sql as 'select false';
create function public.never(text, text) returns boolean language sql as 'select false';
create operator public.= (leftarg = text, rightarg = text, function = public.never);
create operator public.>= (leftarg = bigint, rightarg = bigint, function = public.never);
create operator public.<= (leftarg = bigint, rightarg = bigint, function = public.never);
create temp table topic (topic_id int, name text, floor bigint);
create temp table message (topic_id int, "offset" bigint);
create temp table topics (topic text, floor bigint, head bigint);
create temp table pg_class (oid oid);
create type pg_temp.json as (evil text);
set search_path = pg_temp, public, pg_catalog;
"""


def what_the_functions_do(sql: Session) -> None:
    sql.run("select queue.create_topic('t')")
    assert sql.value("select queue.publish('t', '1', 'k', '{}')") == 1
    assert sql.row("select * from queue.publish_batch('t', '[2,3]')") == (2, 3, False)
    assert sql.value("select created from queue.subscribe('t', 's', 'earliest')") is True
    fetched = "select \"offset\", key, payload::text, published_at > '2000-01-01' from queue.fetch('t', 's')"
    assert sql.rows(fetched) == [(1, "k", "1", True), (2, None, "2", True), (3, None, "3", True)]
    for text in ("fetch_json('t', 's')", "browse_json('t')"):
        (messages,) = sql.row(f"select messages from queue.{text}")
        first, *_ = json.loads(f"[{messages}]")
        assert first.pop("published_at") > "2000-01-01"
        assert first == {"offset": 1, "key": "k", "headers": {}, "payload": 1}
    assert sql.row("select * from queue.ack('t', 's', 2, 0)") == (2, 0, 3, 1)
    assert sql.row("select * from queue.reset('t', null, '-infinity')") == (0, 1)
    assert sql.value("select lag from queue.seek('t', 's', 1)") == 2


def test_hostile_objects_change_nothing(sql: Session) -> None:
    sql.run("grant all on schema public to queue_app")
    act_as(sql, "queue_app")
    sql.run(HOSTILE)
    what_the_functions_do(sql)


@pytest.mark.parametrize("function, change", [
    ("queue.publish", ("pg_catalog.json_build_array", "json_build_array")),
    ("queue.publish_batch", ("SET search_path TO 'pg_catalog', 'pg_temp'", "")),
    ("queue.ack", ("SET search_path TO 'pg_catalog', 'pg_temp'", "")),
    ("queue.fetch_json", ("SET search_path TO 'pg_catalog', 'pg_temp'", "")),
])  # fmt: skip
def test_control_a_function_that_can_be_bent_is_caught(
    sql: Session, function: str, change: tuple[str, str]
) -> None:
    plant(sql, function, change)
    sql.run("grant all on schema public to queue_app")
    act_as(sql, "queue_app")
    sql.run(HOSTILE)
    with pytest.raises(Exception):  # noqa: B017 - a wrong result or an error, both are noticed
        what_the_functions_do(sql)
