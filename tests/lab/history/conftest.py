"""A bench on a server, and functions of the queue to be spoilt there."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from psycopg2.extensions import connection

from tests.lab.history.bench import Bench, Spoil
from tests.server_process import ServerProcess


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def bench(server: ServerProcess, closing: ExitStack) -> Bench:
    return Bench(server.url, closing)


@pytest.fixture
def spoil(connect: Callable[[], connection]) -> Spoil:
    """Return a function that changes one place in the body of an SQL function."""

    def change(function: str, old: str, new: str) -> None:
        with connect() as session, session.cursor() as cursor:
            cursor.execute("select pg_get_functiondef(%s::regproc)", (f"queue.{function}",))
            ((body,),) = cursor.fetchall()
            assert body.count(old) == 1
            cursor.execute(body.replace(old, new))

    return change


@pytest.fixture
def own(start_server: Callable[..., ServerProcess], closing: ExitStack) -> Bench:
    bench = Bench(start_server().url, closing)
    bench.pub.create_topic("orders")
    return bench
