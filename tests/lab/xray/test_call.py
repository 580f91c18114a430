"""An X-ray of a call shows what it makes the server do, and leaves the queue as it was."""

import os
import sys
from collections.abc import Iterator

import psycopg2
import pytest

from qlib import QPublisher, QSubscriber, lab
from qlib.lab import StackError
from qlib.lab.stack.choice import at_hand

SETTINGS = "select unnest(setconfig) as one from pg_db_role_setting"


@pytest.fixture(scope="module")
def pub() -> Iterator[QPublisher]:
    """A publisher of a private queue, which is the one at hand for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("QUEUE_")]:
            patch.delenv(name)
        patch.setattr(sys.modules[at_hand.__module__], "_private", None)
        patch.setenv("QUEUE_URL", "")  # so that what `up` sets is unset again
        patch.setenv("QUEUE_DSN", "")
        lab.up(private=True)
        stack = at_hand()
        assert stack
        with stack, QPublisher() as publisher:
            publisher.create_topic("orders")
            publisher.publish("orders", {"n": 1})
            yield publisher


@pytest.fixture(autouse=True)
def all_is_as_before(pub: QPublisher) -> Iterator[None]:
    """The database has no settings, and new sessions of the server load nothing."""
    yield
    assert lab.sql(SETTINGS).empty
    before = log_size()
    assert pub.publish("orders", {"n": "unseen"}) > 0
    log = str(lab.sql("select pg_read_file('../postgres.log') as text")["text"][0])
    assert "unseen" not in log[before:]


def log_size() -> int:
    return len(str(lab.sql("select pg_read_file('../postgres.log') as text")["text"][0]))


def test_a_publish_of_a_client(pub: QPublisher) -> None:
    shot = lab.xray(pub.publish, "orders", {"n": 2})
    assert isinstance(shot.rows, int) and shot.rows > 1
    texts = " ".join(shot.statements["statement"])
    assert "pg_advisory_xact_lock" in texts and "insert into queue.message" in texts
    assert "insert into queue.publication" in texts  # a client numbers what it publishes
    own = shot.records[shot.records["xid"].notna()]
    assert own["record"].tolist().count("Transaction COMMIT") == 1
    assert {"queue.message", "queue.publication"} <= set(own["relation"])
    assert "queue.message" in set(shot.pages["relation"])


def test_a_fetch_writes_nothing(pub: QPublisher) -> None:
    with QSubscriber("orders", "kitchen", start="earliest") as kitchen:
        shot = lab.xray(lambda: kitchen.fetch(1))
        assert [message.offset for message in shot.rows] == [1]
        assert any("fetch_json" in str(plan["Query Text"]) for plan in shot.plans)
        # the server may have tidied meanwhile
        assert not {"queue.message", "queue.message_pkey"} & set(shot.records["relation"])


def test_only_what_ran_meanwhile_is_shown(pub: QPublisher) -> None:
    pub.publish("orders", {"n": "before"})
    shot = lab.xray(pub.publish, "orders", {"n": "during"})
    assert "during" in str(shot.plans) and "before" not in str(shot.plans)


def test_after_an_exception_all_is_as_before(pub: QPublisher) -> None:
    with pytest.raises(ZeroDivisionError):
        lab.xray(lambda: 1 / 0)


def test_after_a_crash_all_is_as_before(pub: QPublisher) -> None:
    def crash() -> None:
        lab.crash()
        lab.restart()

    with pytest.raises(psycopg2.OperationalError):
        lab.xray(crash)


def test_what_the_database_had_is_put_back(pub: QPublisher) -> None:
    name = lab.sql("select current_database() as name")["name"][0]
    with lab.session("setting") as session:
        session.run("load 'auto_explain'")
        session.run(f"alter database {name} set auto_explain.log_min_duration = '7s'")
        session.commit()
        lab.xray(lambda: None)
        assert lab.sql(SETTINGS)["one"].tolist() == ["auto_explain.log_min_duration=7s"]
        session.run(f"alter database {name} reset all")
        session.commit()


def test_of_a_queue_that_is_not_private_it_refuses(
    pub: QPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    with monkeypatch.context() as patch:
        patch.setenv("QUEUE_URL", "http://127.0.0.1:1")
        with pytest.raises(StackError, match="it is for private queues alone$"):
            lab.xray(ran.append, 1)
    assert not ran
