"""A strategy is another function in another database, and leaves no trace."""

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection, parse_dsn

from qlib.lab import sql
from qlib.lab.sessions.session import Session
from qlib.lab.sessions.strategy import _STRATEGIES, scratch, strategy
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_leaks")

OTHERS = ("counter_row", "max_plus_one", "no_fence", "record_batch", "sequence")
ALL = ("advisory_lock", *OTHERS)
# all that another one may have instead of what is installed
DEFINITION = """
select string_agg(pg_get_functiondef(oid), '' order by proname) from pg_proc
where oid in ('queue.publish_batch'::regproc, 'queue.lease_expired'::regproc)
"""
SIGNATURE = (
    "select pg_get_function_arguments(oid), pg_get_function_result(oid), prosecdef, proacl::text,"
    " proowner::regrole::text, proconfig[1], provolatile::text from pg_proc"
    " where oid in ('queue.publish_batch'::regproc, 'queue.lease_expired'::regproc) order by proname"
)
PUBLISH = """
select * from queue.publish_batch('orders', '[1, {"a":  2}]', '{x,null}', '[null, {"h": 1}]')
"""

PUBLISH_MANY = """
do $$ begin for n in 1..1500 loop perform queue.publish('orders', '1'); commit; end loop; end $$
"""


@pytest.fixture
def learned_on(queue_dsn: str, connect: Callable[[], connection]) -> Callable[[], str]:
    """Ask the database one learns on for its function, whatever $QUEUE_DSN says."""
    own = connect()
    own.autocommit = True

    def definition() -> str:
        with own.cursor() as cursor:
            cursor.execute(DEFINITION)
            return str(cursor.fetchall()[0][0])

    return definition


def test_there_are_as_many_as_files() -> None:
    assert sorted(file.stem for file in _STRATEGIES.glob("*")) == list(OTHERS)
    for file in _STRATEGIES.glob("*"):
        assert file.read_text().startswith("-- Strategy: ")


@pytest.mark.parametrize("name", ALL)
def test_only_the_scratch_database_has_it(
    name: str, queue_dsn: str, learned_on: Callable[[], str]
) -> None:
    before = learned_on()
    with strategy(name):
        assert learned_on() == before
        assert (sql(DEFINITION).iat[0, 0] == before) == (name == "advisory_lock")
        assert os.environ["QUEUE_DSN"] != queue_dsn
    assert os.environ["QUEUE_DSN"] == queue_dsn
    assert sql(DEFINITION).iat[0, 0] == learned_on() == before


@pytest.mark.parametrize("name", OTHERS)
def test_it_is_gone_after_an_exception(
    name: str, queue_dsn: str, learned_on: Callable[[], str]
) -> None:
    before = learned_on()
    with pytest.raises(ZeroDivisionError), strategy(name):
        raise ZeroDivisionError
    assert os.environ["QUEUE_DSN"] == queue_dsn
    assert sql(DEFINITION).iat[0, 0] == learned_on() == before


def test_a_session_left_open_keeps_no_database(queue_dsn: str) -> None:
    with strategy("sequence"):
        left_open = Session("A")
        left_open.run("select 1")
    assert os.environ["QUEUE_DSN"] == queue_dsn
    left_open.close()


def test_who_is_still_there_has_left_before_the_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    module, there = sys.modules[scratch.__module__], []
    execute: Callable[[connection, str], list[tuple[Any, ...]]] = module._execute

    def watched(keeper: connection, statement: str) -> list[tuple[Any, ...]]:
        if statement.startswith("drop database"):
            name = statement.split()[4]
            there.append(
                execute(keeper, f"select pid from pg_stat_activity where datname = '{name}'")
            )
        return execute(keeper, statement)

    monkeypatch.setattr(module, "_execute", watched)
    with scratch():
        left_open = Session("A")
        left_open.run("select 1")
    left_open.close()
    assert there == [[]]


@pytest.mark.parametrize("name", OTHERS)
def test_the_signature_is_the_same(name: str) -> None:
    installed = sql(SIGNATURE).values.tolist()
    with strategy(name):
        assert sql(SIGNATURE).values.tolist() == installed


@pytest.mark.parametrize("name", ALL)
def test_alone_each_of_them_is_right(name: str) -> None:
    with strategy(name):
        sql("select queue.create_topic('orders')")
        assert sql(PUBLISH).values.tolist() == [[1, 2, False]]
        assert sql(PUBLISH).values.tolist() == [[3, 4, False]]
        assert sql("select queue.publish('orders', '5')").iat[0, 0] == 5
        stored = sql('select "offset", key, headers, payload::text from queue.messages limit 2')
        assert stored.values.tolist() == [[1, "x", None, "1"], [2, None, {"h": 1}, '{"a":  2}']]
        with pytest.raises(psycopg2.Error) as caught:
            sql("select queue.publish('nowhere', '1')")
        assert caught.value.pgcode == "QL001"


@pytest.mark.parametrize(("name", "following"), [(name, 1 + (name == "sequence")) for name in ALL])
def test_only_a_sequence_leaves_a_hole(name: str, following: int) -> None:
    with strategy(name), Session("A") as session:
        session.run("select queue.create_topic('orders')")
        session.commit()
        session.run("select queue.publish('orders', '1')")
        session.rollback()
        assert session.run("select queue.publish('orders', '1')") == [(following,)]


@pytest.mark.parametrize(("held", "grows"), [(True, True), (False, False)])
def test_a_counter_grows_beside_an_old_snapshot(held: bool, grows: bool) -> None:
    with strategy("counter_row"), Session("report", "repeatable read") as report:
        sql("select queue.create_topic('orders')")
        if held:
            report.run("select 1 from queue.topic")
        with closing(psycopg2.connect(os.environ["QUEUE_DSN"])) as publisher:
            publisher.autocommit = True
            with publisher.cursor() as cursor:
                cursor.execute(PUBLISH_MANY)
        pages = sql("select pg_relation_size('queue.counter') / 8192").iat[0, 0]
        assert (pages > 4) == grows


LEASE = "select lease, attempt from queue.lease('orders', 'kitchen', p_lease_seconds => %s)"
ACK_LEASE = "select acked from queue.ack_lease('orders', 'kitchen', %s)"


@pytest.mark.parametrize("name", ["advisory_lock", "no_fence"])
def test_without_the_fence_two_are_told_that_they_did_it(name: str) -> None:
    with strategy(name):
        sql("select queue.create_topic('orders')")
        sql("select queue.publish('orders', '1')")
        sql("select queue.subscribe('orders', 'kitchen', 'earliest')")
        zombie, first = sql(LEASE, 0.001).values.tolist()[0]
        ((other, second),) = until(lambda: sql(LEASE, 30).values.tolist(), 40)
        assert (first, second) == (1, 2)
        if name == "no_fence":
            assert sql(ACK_LEASE, zombie).iat[0, 0] == 1
        else:
            with pytest.raises(psycopg2.Error) as refused:
                sql(ACK_LEASE, zombie)
            assert refused.value.pgcode == "QL010"
        assert sql(ACK_LEASE, other).iat[0, 0] == 1
        with pytest.raises(psycopg2.Error) as unknown:
            sql(ACK_LEASE, "9-9")
        assert unknown.value.pgcode == "QL010"


PUBLISH_COLUMNS = "select * from queue.publish_batch('orders', %s::json, %s::text[], %s::json)"
ACK = """
select a.position, a.head, a.lag
from queue.subscribers s, queue.ack(s.topic, s.subscriber, %s, s.epoch) a
where s.topic = 'orders' and s.subscriber = %s
"""
READ = 'select "offset", key, headers::text, payload::text from {} order by "offset"'
WRONG_PAGES = {
    ' and m."offset" >= p_first': "",
    "m.last_offset >= p_first": "m.last_offset > p_first",
    "v_head + min(m.n)": "v_head + 1",
    "json_agg(m.payload order by m.n)": "jsonb_agg(m.payload order by m.n)::json",
    "json_agg(m.headers order by m.n)": "json_agg(m.headers order by m.n desc)",
    "array_agg(m.key order by m.n)": "array_agg(m.key order by m.n desc)",
}


def some_batches() -> Iterator[tuple[str, list[str | None] | None, str | None]]:
    """Make payloads, keys and headers as the function takes them, with blanks that must stay."""
    dice = random.Random(6)
    for size in (1, 3, 200, 2, 120, 1, 60):
        texts = ["é x" * dice.randrange(dice.choice([3, 30, 100])) for _ in range(size)]
        payloads = [json.dumps([n, text], ensure_ascii=False) for n, text in enumerate(texts)]
        payloads += dice.choices(["null", "[ 1,  2]", '{ "a":1}', f'"{"long" * 5000}"'])
        keys = [dice.choice([None, "c-1", "ü" * n]) for n in range(len(payloads))]
        headers = [dice.choice(["null", '{"h": 1}', '{"h":  [1]}']) for _ in payloads]
        yield f"[{', '.join(payloads)}]", keys, f"[{','.join(headers)}]"
        yield f"[{', '.join(payloads)}]", dice.choice([None, keys]), None


def all_that_is_read(under: Session) -> list[object]:
    """Publish some batches while two subscribers read, each in steps of its own; return it all."""
    dice = random.Random(7)
    seen: list[Any] = []

    def run(statement: str, *values: object) -> list[Any]:
        found = under.run(statement, *values)
        assert isinstance(found, list)
        seen.append(found)
        return found

    under.run("select queue.create_topic('orders')")
    for name in ("kitchen", "billing"):
        under.run("select queue.subscribe('orders', %s)", name)
    for columns in some_batches():
        run(PUBLISH_COLUMNS, *columns)
        for name in ("kitchen", "billing"):
            limit = dice.choice([1, 7, 90, 1000])
            fetched = run(READ.format("queue.fetch('orders', %s, %s)"), name, limit)
            if fetched:
                run(ACK, fetched[-1].offset, name)
    head = run("select head from queue.topics")[0].head
    for offset in (1, head // 3, head - 100, head, head + 1):
        run(READ.format("queue.browse('orders', %s, 150)"), offset)
    assert len(run(READ.format("queue.messages"))) == head > 700
    return seen


def test_what_is_in_pages_is_read_as_if_it_were_in_rows() -> None:
    text = (_STRATEGIES / "record_batch.sql").read_text()
    with strategy("advisory_lock"), Session("A") as rows:
        expected = all_that_is_read(rows)
    with strategy("record_batch"), Session("A") as pages:
        assert all_that_is_read(pages) == expected
        assert pages.run("select from queue.message") == []
        for right, wrong in WRONG_PAGES.items():
            pages.rollback()
            assert text.count(right) == 1
            pages.run(text.replace(right, wrong))
            assert all_that_is_read(pages) != expected


LIES_ELSEWHERE = """
select pg_relation_size(reltoastrelid) > 0
    or exists (select from queue.page p where pg_column_compression(p.payloads) is not null)
from pg_class where oid = 'queue.page'::regclass
"""


def test_a_page_is_as_full_as_a_row_may_be() -> None:
    dice = random.Random(8)
    payloads = [{"text": dice.randbytes(dice.randrange(50, 100)).hex()} for _ in range(3000)]
    values = json.dumps(payloads), ["c"] * 3000, json.dumps([{"h": 1}] * 3000)
    with strategy("record_batch"):
        sql("select queue.create_topic('orders')")
        sql("select queue.publish_batch('orders', %s, %s::text[], %s)", *values)
        assert sql("select count(*) from queue.page").iat[0, 0] < 3000 / 25
        assert not sql(LIES_ELSEWHERE).iat[0, 0]
        sql("select queue.publish('orders', %s)", {"text": dice.randbytes(5000).hex()})
        assert sql(LIES_ELSEWHERE).iat[0, 0]


def test_what_was_abandoned_is_dropped(queue_dsn: str) -> None:
    def scratches() -> list[str]:
        query = "select datname from pg_database where datname ~ '^queue_scratch_' order by 1"
        return sql(query)["datname"].tolist()

    with closing(psycopg2.connect(queue_dsn)) as session, session.cursor() as cursor:
        session.autocommit = True
        cursor.execute("create database queue_scratch_1")  # no session ever has this number
    with scratch():
        own = parse_dsn(os.environ["QUEUE_DSN"])["dbname"]
        assert scratches() == [own]
        with scratch():
            assert len(scratches()) == 2
            assert own in scratches()
        assert scratches() == [own]
    assert scratches() == []


def test_what_is_none_of_them_is_refused(queue_dsn: str) -> None:
    with (
        pytest.raises(ValueError, match="'hope' is none of advisory_lock, counter_row"),
        strategy("hope"),
    ):
        pass
    assert os.environ["QUEUE_DSN"] == queue_dsn
