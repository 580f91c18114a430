"""Which queue `lab.up` takes, and what it says of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from qlib import QPublisher, Unavailable
from qlib.lab import Stack, StackError, sql, up
from qlib.lab.stack import choice
from tests.server_process import ServerProcess, free_port


@pytest.fixture(autouse=True)
def no_queue_is_set() -> Iterator[None]:
    """Keep the caller's own queue out, and what `up` sets in."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("QUEUE_URL", "QUEUE_DSN", "QUEUE_DATA"):
            patch.setenv(name, "")
        yield


def at_hand() -> tuple[str, str]:
    return os.environ["QUEUE_URL"], os.environ["QUEUE_DSN"]


def test_it_says_which_queue_it_takes_and_only_then(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = server.settings["DATABASE_URL"]
    up()
    assert capsys.readouterr().out == "this notebook has a private queue\n"
    private = at_hand()
    up(fresh="orders")
    up(private=True)
    assert capsys.readouterr().out == ""
    up(url=server.url + "/", dsn=dsn)
    assert capsys.readouterr().out == f"the queue is {server.url}\n"
    assert at_hand() == (server.url, dsn)
    up()
    up(fresh="said")
    assert capsys.readouterr().out == "" and at_hand() == (server.url, dsn)
    up(private=True)
    assert capsys.readouterr().out == "this notebook has a private queue\n"
    assert at_hand() == private


def test_ones_own_queue_may_have_no_database_to_look_into(server: ServerProcess) -> None:
    up(url=server.url)
    with QPublisher() as pub:
        assert repr(pub) == f"QPublisher({server.url!r})"
    with pytest.raises(LookupError, match=r"lab\.up\(url=…, dsn=…\)"):
        sql("select 1")
    with pytest.raises(StackError, match=r"\$QUEUE_DSN does not say which"):
        up(fresh="unknown")
    assert at_hand() == (server.url, "")


def test_a_queue_that_is_not_there_is_not_taken(server: ServerProcess) -> None:
    before = at_hand()
    nowhere = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable):
        up(url=nowhere)
    with pytest.raises(psycopg2.OperationalError):
        up(url=server.url, dsn="host=127.0.0.1 port=1 dbname=nowhere")
    assert at_hand() == before


@pytest.mark.parametrize(
    "wrong", [{"private": True, "mine": True}, {"mine": True, "url": "http://x"}, {"dsn": "x"}]
)
def test_one_queue_at_a_time(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="one queue at a time"):
        up(**wrong)  # type: ignore[arg-type]


def test_mine_is_the_one_that_runs_on_the_data_of_this_checkout(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choice, "ROOT", directory)
    data = directory / ".queue"
    with pytest.raises(StackError, match=r"no queue runs on .*/\.queue: `make lab` starts one"):
        up(mine=True)
    with Stack(data) as running:
        up(mine=True)
        assert at_hand() == (running.url, running.dsn)
        assert capsys.readouterr().out == f"the queue is {running.url}\n"
        monkeypatch.setattr(choice, "ROOT", directory / "elsewhere")
        monkeypatch.setenv("QUEUE_DATA", str(data))  # as the kernels of `make lab` have it
        up(mine=True, fresh="orders")
        with QPublisher() as pub:
            assert pub.create_topic("orders").head == 0
        with QPublisher(running.url + "/") as unmarked:
            unmarked.create_topic("letters")
        with pytest.raises(StackError, match="'letters' was not made by the lab"):
            up(fresh="letters")
        assert at_hand() == (running.url, running.dsn)
    with pytest.raises(StackError, match="no queue runs on"):
        up(mine=True)
