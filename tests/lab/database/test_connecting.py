"""The lab works in the database that it was told, whatever the kernel's environment says."""

import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from multiprocessing import get_context

import psycopg2
import pytest

from qlib.lab import session, sql, strategy
from qlib.lab.database.connecting import _without_variables
from tests.libpq import misleading

STATE = """select current_database() as name, current_setting('client_encoding') as encoding,
           current_setting('datestyle') as style, current_setting('timezone') as zone"""
# What the kind is about; the others of libpq are tried as well.
ASTRAY = {
    *("PGHOSTADDR", "PGSERVICE", "PGREQUIREAUTH", "PGGSSENCMODE", "PGTARGETSESSIONATTRS"),
    *("PGCLIENTENCODING", "PGOPTIONS", "PGSSLMODE", "PGREQUIREPEER", "PGCONNECT_TIMEOUT"),
    *("PGTZ", "PGDATESTYLE", "PGCHANNELBINDING"),
}


def state() -> list[object]:
    return sql(STATE).iloc[0].tolist()


def plain_state(dsn: str) -> list[object]:
    """Ask as a cell does that connects itself: the control."""
    try:
        with closing(psycopg2.connect(dsn)) as session, session.cursor() as rows:
            rows.execute(STATE)
            return list(rows.fetchone() or ())
    except psycopg2.Error as error:
        return [str(error)]


def test_no_variable_of_libpq_s_reaches_the_lab(
    queue_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, led_astray = state(), set()
    assert before == plain_state(queue_dsn)
    for name, value in misleading().items():
        with monkeypatch.context() as one:
            one.setenv(name, value)
            assert state() == before, name
            assert os.environ[name] == value, "it is put back"
            if plain_state(queue_dsn) != before:
                led_astray.add(name)
    assert led_astray >= ASTRAY


def test_all_of_them_at_once(queue_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state()
    variables = misleading()
    assert len(variables) > 30
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with session("Ann") as ann, strategy("advisory_lock"):
        assert ann.run("select 1 as one")[0].one == 1
        assert state()[1:] == before[1:]
    assert {name: os.environ[name] for name in variables} == variables


def test_threads_that_connect_at_once(queue_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = misleading()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: sql("select %s as n", n)["n"].item(), range(40)))
    assert found == list(range(40))
    assert {name: os.environ[name] for name in variables} == variables


def test_a_failure_puts_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.9")
    monkeypatch.setenv("QUEUE_DSN", "host=/nowhere")
    with pytest.raises(psycopg2.OperationalError, match="/nowhere"):
        sql("select 1")
    assert os.environ["PGHOSTADDR"] == "127.0.0.9"


def test_a_child_that_is_forked_meanwhile(queue_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is forked when the variables are back, and can connect itself."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.9")
    connecting, go_on = threading.Event(), threading.Event()

    def connect_slowly() -> None:
        with _without_variables():
            connecting.set()
            go_on.wait(10)

    slow = threading.Thread(target=connect_slowly)
    slow.start()
    connecting.wait(10)
    threading.Timer(0.2, go_on.set).start()
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        assert pool.submit(in_the_child).result(30) == ("127.0.0.9", 1)
    slow.join()


def in_the_child() -> tuple[str, int]:
    return os.environ["PGHOSTADDR"], sql("select 1 as one")["one"].item()
