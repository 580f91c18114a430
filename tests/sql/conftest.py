"""Sessions for the SQL tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from psycopg2.extensions import connection

from tests.conftest import EPOCHS_FROM_0
from tests.sql.session import Session
from tests.sql.working import Crew, published


@pytest.fixture
def session(connect: Callable[[], connection]) -> Iterator[Callable[[], Session]]:
    """Open sessions on the test's database."""
    watcher = connect()
    with ExitStack() as opened:
        yield lambda: opened.enter_context(closing(Session(connect(), watcher)))


@pytest.fixture
def sql(session: Callable[[], Session]) -> Session:
    """A session on a database in which nothing was done yet.

    Subscribers begin at epoch 0 in it, so that tests can name their epochs; test_lives.py has the real ones.
    """
    fresh = session()
    fresh.run(EPOCHS_FROM_0)
    return fresh


@pytest.fixture
def orders(sql: Session) -> Session:
    """A session on a database with the topic `orders`, which is empty."""
    sql.run("select queue.create_topic('orders', 'every order placed')")
    return sql


@pytest.fixture
def readers(orders: Session, session: Callable[[], Session]) -> tuple[Session, Session, Session]:
    """Three sessions, and a topic of five messages with `billing` and `kitchen` at its beginning."""
    orders.run(
        "select queue.publish_batch('orders', '[1,2,3,4,5]')",
        "select queue.subscribe('orders', 'billing', 'earliest')",
        "select queue.subscribe('orders', 'kitchen', 'earliest')",
    )
    return orders, session(), session()


@pytest.fixture
def crew(orders: Session) -> Crew:
    """The workers of `kitchen`, and ten messages that nobody has worked on."""
    published(orders, 10)
    orders.run("select queue.subscribe('orders', 'kitchen', 'earliest')")
    return Crew(orders)
