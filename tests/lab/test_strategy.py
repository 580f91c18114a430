"""A strategy is another function in another database, and leaves no trace."""

import os
from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import connection, parse_dsn

from qlib.lab import sql
from qlib.lab.session import Session
from qlib.lab.strategy import _STRATEGIES, scratch, strategy

pytestmark = pytest.mark.usefixtures("nothing_leaks")

OTHERS = ("counter_row", "max_plus_one", "sequence")
ALL = ("advisory_lock", *OTHERS)
DEFINITION = "select pg_get_functiondef('queue.publish_batch'::regproc)"
SIGNATURE = (
    "select pg_get_function_arguments(oid), pg_get_function_result(oid), prosecdef, proacl::text,"
    " proowner::regrole::text, proconfig from pg_proc where oid = 'queue.publish_batch'::regproc"
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
