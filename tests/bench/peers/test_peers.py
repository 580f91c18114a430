"""The peers, on a small scale: every reader gets what was published, or the benchmark says that it did not."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from psycopg2.extensions import connection, make_dsn

from server.engines.postgres.embedded import EmbeddedPostgres
from tests.bench import peers
from tests.bench.peers import Peer, Stand, TooFewError, absent, available, jetstream
from tests.bench.peers.ours import Ours
from tests.bench.peers.process import running
from tests.bench.peers.sql import SqlPeer, array_literal
from tests.conftest import execute
from tests.waiting import until

OTHERS = ["pgmq", "PgQue", "Redis always", "Redis everysec", "NATS JetStream"]
PRESENT = [name for name, _, missing in peers._known() if not missing]
PAYLOADS = ['{"n":  1}', r'"\"\\ü"', "null", '"null"', '""', "[1, {}]", "\n2 ", '"{,}"', "1e3"]
READERS = 3


class Scratch:
    """Databases on the cluster of the tests."""

    def __init__(self, cluster: EmbeddedPostgres) -> None:
        self.cluster = cluster
        self.names: list[str] = []

    def dsn(self, name: str) -> str:
        self.names.append(name)
        execute(self.cluster, f'create database "{name}"')
        return make_dsn(self.cluster.dsn, dbname=name)


@pytest.fixture
def stand(cluster: EmbeddedPostgres) -> Iterator[Stand]:
    """A stand; in the end nobody is connected to its databases, and no thread is left."""
    scratch, threads = Scratch(cluster), threading.active_count()
    yield scratch
    for name in scratch.names:
        execute(cluster, f'drop database "{name}"')
    until(lambda: threading.active_count() == threads)


@pytest.fixture(params=PRESENT)
def peer(
    request: pytest.FixtureRequest, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Peer]:
    """Each peer that can run here, with an empty queue."""
    monkeypatch.setattr(jetstream, "_EMPTY", 1.0)
    (found,) = [peer for peer in available(stand) if peer.name == request.param]
    with found:
        found.prepare(READERS)
        yield found


def test_every_reader_gets_every_message(peer: Peer) -> None:
    before = peer.wal()
    peer.publish(PAYLOADS[:1])
    peer.publish(PAYLOADS)
    assert peer.drain(1 + len(PAYLOADS)) == READERS * (1 + len(PAYLOADS))
    peer.publish(PAYLOADS)
    assert peer.drain(len(PAYLOADS)) == READERS * len(PAYLOADS)
    after = peer.wal()
    assert (after is not None) == (before is not None) == isinstance(peer, SqlPeer)
    assert before is None or after is None or after - before > len("".join(PAYLOADS))


def test_what_is_missing_is_noticed(peer: Peer) -> None:
    peer.publish(PAYLOADS)
    with pytest.raises(TooFewError, match=r": a reader got 9 of 10 messages$"):
        peer.drain(len(PAYLOADS) + 1)
    peer.publish(PAYLOADS)
    peer.prepare(1)
    with pytest.raises(TooFewError, match=r": a reader got 0 of 1 messages$"):
        peer.drain(1)


def test_ours_is_published_and_acknowledged(stand: Stand) -> None:
    with Ours("ours", stand) as ours:
        ours.prepare(READERS)
        ours.publish(PAYLOADS)
        ours.drain(len(PAYLOADS))
        ours._sql.execute('select payload from queue.message order by "offset"')
        assert [payload for (payload,) in ours._sql.fetchall()] == [
            text.strip() for text in PAYLOADS
        ]
        ours._sql.execute('select topic, "position" from queue.subscribers')
        assert ours._sql.fetchall() == [("round-1", len(PAYLOADS))] * READERS


class Loses(Peer):
    """Its second reader gets one message less than the first."""

    def prepare(self, subscribers: int) -> None:
        self._left = [5, 4]
        self._readers = [partial(self._take, number) for number in range(subscribers)]

    def publish(self, payloads: Sequence[str]) -> None:
        raise NotImplementedError

    def _start(self, opened: ExitStack) -> None:
        raise NotImplementedError

    def _take(self, number: int, limit: int) -> int:
        taken = min(2, limit, self._left[number])
        self._left[number] -= taken
        return taken


def test_a_reader_that_gets_less_than_another_is_noticed(stand: Stand) -> None:
    loses = Loses("loses", stand)
    loses.prepare(2)
    assert loses.drain(4) == 8
    loses.prepare(2)
    with pytest.raises(TooFewError, match=r"^loses: a reader got 4 of 5 messages$"):
        loses.drain(5)


def test_ours_and_the_strategies_are_always_there() -> None:
    files = sorted(file.stem for file in peers._STRATEGIES.glob("*.sql"))
    assert len(files) >= 3
    assert PRESENT[: 1 + len(files)] == ["ours (SQL)", *(f"lab: {name}" for name in files)]
    assert sorted([*PRESENT, *dict(absent())]) == sorted([*PRESENT[: 1 + len(files)], *OTHERS])


def test_who_is_absent_is_named_with_what_is_lacking(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGMQ_SQL", raising=False)
    monkeypatch.setenv("PGQUE_SQL", "/nowhere.sql")
    monkeypatch.setattr(peers, "program", {"redis-server": "/there"}.get)
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert dict(absent()) == {
        "pgmq": "$PGMQ_SQL does not name its SQL file",
        "PgQue": "$PGQUE_SQL: there is no file /nowhere.sql",
        "Redis always": "there is no Python package redis",
        "Redis everysec": "there is no Python package redis",
        "NATS JetStream": "there is no program nats-server",
    }
    assert not {peer.name for peer in available(stand)} & {name for name, _ in absent()}


def test_an_array_arrives_as_it_is(connect: Callable[[], connection]) -> None:
    with connect() as session, session.cursor() as cursor:
        cursor.execute("select %s::text[]", (array_literal(PAYLOADS),))
        assert cursor.fetchall() == [(PAYLOADS,)]


def test_a_server_ends_with_its_block(directory: Path) -> None:
    pid = directory / "pid"
    script = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with (
        pytest.raises(ZeroDivisionError),
        running([sys.executable, "-c", script], directory / "log"),
    ):
        until(lambda: pid.exists() and pid.read_text())
        process = Path("/proc", pid.read_text())
        assert process.exists()
        raise ZeroDivisionError
    assert not process.exists()
