"""The promises of the README, each pinned by the test of its name."""

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg2.extensions import connection

from qlib import (
    LeaseExpired,
    OffsetOutOfRange,
    OutcomeUnknown,
    QPublisher,
    QSubscriber,
    StaleEpoch,
    Unavailable,
)
from server.engines.postgres.embedded import EmbeddedPostgres
from tests.proxy import cutting
from tests.server_process import ServerProcess, serving
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def pub(server: ServerProcess) -> Iterator[QPublisher]:
    with QPublisher(server.url) as publisher:
        yield publisher


@pytest.fixture
def subscribe(server: ServerProcess) -> Callable[..., QSubscriber]:
    return lambda topic, name, start="earliest": QSubscriber(topic, name, start, url=server.url)


def test_each_promise_stands_in_the_readme_and_has_its_test() -> None:
    promised = re.findall(r"^- \*\*(P\d+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert promised == [*(f"P{n}" for n in range(1, 12)), "P13"]
    pinned = {name.split("_")[1] for name in globals() if re.match(r"test_P\d+_", name)}
    assert pinned == set(promised)


def test_P1_durability(directory: Path, tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(directory)
    server = ServerProcess(tmp_path / "log", "--data", str(directory))
    with postgres, serving(server), QPublisher(server.url) as pub:
        assert server.call("GET", "/health").json()["status"] == "ok"
        pub.create_topic("t")
        sub = QSubscriber("t", "s", "earliest", url=server.url)
        for round_ in range(2):
            stored = pub.publish_many("t", [f"{round_}-{n}" for n in range(5)])
            assert sub.ack(stored[2]) == stored[2]
            killed = postgres.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            server.kill()
            server.start()
            server.ready()
            assert postgres.pid != killed
            assert [m.payload for m in pub.browse("t", stored[0])] == [
                f"{round_}-{n}" for n in range(5)
            ]
            assert sub.position == stored[2]
        sub.close()


def test_P1_is_called_unsafe_when_a_setting_is_off(server: ServerProcess) -> None:
    # the tests' own cluster is not durable: the control for the one above
    health = server.call("GET", "/health")
    assert health.status_code == 200
    assert health.json()["status"] == "unsafe"
    assert health.json()["unsafe"] == ["fsync", "full_page_writes"]


def test_P2_order(server: ServerProcess, pub: QPublisher, topic: str) -> None:
    batches: list[tuple[int, range]] = []

    def publish(number: int) -> None:
        with QPublisher(server.url) as own:
            for _ in range(20):
                stored = own.publish_many(topic, [number] * 7)
                assert isinstance(stored, range)
                batches.append((number, stored))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(batches) == 80
    assert sorted(o for _, stored in batches for o in stored) == list(range(1, 561))
    kept = {m.offset: m.payload for m in pub.browse(topic, limit=1000)}
    assert kept == {offset: number for number, stored in batches for offset in stored}
    for number in range(4):  # each waited for its answer before it sent the next
        own_batches = [stored[0] for other, stored in batches if other == number]
        assert own_batches == sorted(own_batches)
    with pytest.raises(OffsetOutOfRange):
        pub.browse(topic, 600)


def test_P2_a_rolled_back_publish_leaves_no_hole(connect: Callable[[], connection]) -> None:
    session = connect()
    with session.cursor() as cursor:
        cursor.execute("select queue.create_topic('t')")
        cursor.execute("select queue.publish('t', '1')")
        session.commit()
        cursor.execute("select queue.publish('t', '2')")
        session.rollback()
        cursor.execute("select queue.publish('t', '3')")
        session.commit()
        cursor.execute('select "offset", payload::text from queue.messages order by 1')
        assert cursor.fetchall() == [(1, "1"), (2, "3")]


def test_P3_immutability(server: ServerProcess, topic: str) -> None:
    texts = ['{"b": 1, "a":2,  "a":3}', "1.50", "1e2", "[ ]", '"\\u00e9é"', "12345678901234567890"]
    body = '{"payloads": [' + " , ".join(texts) + "]}"
    answer = server.call(
        "POST",
        f"/topics/{topic}/messages",
        data=body.encode(),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 201
    for _ in range(2):
        for place, text in enumerate(texts):
            route = f"/topics/{topic}/messages?offset={place + 1}&limit=1"
            assert f'"payload":{text}}}]}}' in server.call("GET", route).text
    with pytest.raises(AssertionError):
        assert json.dumps(json.loads(texts[0])) == texts[0]  # what rebuilding would have done


def test_P4_freshness(
    start_server: Callable[..., ServerProcess],
) -> None:
    here, there = start_server(), start_server()
    with QPublisher(here.url) as pub:
        pub.create_topic("t")
        sub = QSubscriber("t", "s", url=there.url)
        for n in range(50):
            pub.publish("t", n)
            batch = sub.fetch()
            assert [m.payload for m in batch] == [n]
            sub.ack(batch[-1])
        sub.close()


def test_P5_fetch_is_contiguous_and_moves_nothing(
    pub: QPublisher, topic: str, subscribe: Callable[..., QSubscriber]
) -> None:
    pub.publish_many(topic, list(range(10)))
    with subscribe(topic, "s", 3) as sub:
        for _ in range(2):
            assert [m.offset for m in sub.fetch(4)] == [4, 5, 6, 7]
            assert [m.offset for m in sub.fetch(4, after=7)] == [8, 9, 10]
            assert sub.position == 3


def test_P6_ack_is_a_maximum(
    pub: QPublisher, topic: str, subscribe: Callable[..., QSubscriber]
) -> None:
    pub.publish_many(topic, list(range(10)))
    with subscribe(topic, "s") as sub:
        assert [sub.ack(5), sub.ack(3), sub.ack(5), sub.ack(6)] == [5, 5, 5, 6]
        with pytest.raises(OffsetOutOfRange) as beyond:
            sub.ack(11)
        assert (beyond.value.status, beyond.value.head, sub.position) == (409, 10, 6)
        with subscribe(topic, "s") as other:
            other.seek(2)
        with pytest.raises(StaleEpoch) as stale:
            sub.ack(7)
        assert (stale.value.status, sub.position) == (409, 2)


def test_P7_at_least_once(
    pub: QPublisher, topic: str, subscribe: Callable[..., QSubscriber]
) -> None:
    pub.publish_many(topic, list(range(100)))
    seen: list[int] = []
    with subscribe(topic, "s", 20) as sub:
        while sub.lag:
            try:
                for message in sub.consume(limit=10, wait=0):
                    seen.append(message.offset)
                    if len(seen) % 7 == 0:
                        raise RuntimeError("the handler died")
            except RuntimeError:
                continue
    assert sorted(set(seen)) == list(range(21, 101))
    assert len(seen) > 80  # some came twice, none was lost


def test_P8_independence(
    pub: QPublisher, topic: str, subscribe: Callable[..., QSubscriber]
) -> None:
    pub.publish_many(topic, list(range(10)))
    kitchen, billing = subscribe(topic, "kitchen"), subscribe(topic, "billing")
    with kitchen, billing:
        epochs = {sub.subscriber: sub.info().epoch for sub in (kitchen, billing)}
        kitchen.ack(7)
        kitchen.seek(4)
        kitchen.fetch()
        assert (billing.position, billing.info().epoch) == (0, epochs["billing"])
        billing.unsubscribe()
        assert (kitchen.position, kitchen.info().epoch) == (4, epochs["kitchen"] + 1)
        with subscribe(topic, "mailer", "latest"):
            before = {s.subscriber: s.epoch for s in pub.subscribers(topic)}
            pub.reset_topic(topic, 2)
        moved = {s.subscriber: (s.position, s.epoch) for s in pub.subscribers(topic)}
        assert moved == {name: (2, epoch + 1) for name, epoch in before.items()}
        assert moved.keys() == {"kitchen", "mailer"}


def test_P9_replay_is_safe(
    pub: QPublisher, topic: str, subscribe: Callable[..., QSubscriber]
) -> None:
    pub.publish_many(topic, list(range(10)))
    with subscribe(topic, "s") as sub:
        for rewind in (
            lambda: pub.reset_topic(topic, 0),
            lambda: sub.seek(datetime(2020, 1, 1, tzinfo=UTC)),
        ):
            before = sub.fetch()
            rewind()
            with pytest.raises(StaleEpoch):
                sub.ack(before[-1])
            with pytest.raises(StaleEpoch):
                sub.fetch(after=before[-1].offset)
            assert sub.position == 0
            after = sub.fetch()
            assert sub.ack(after[4]) == 5


@pytest.mark.parametrize("what", ["subscriber", "topic"])
def test_P9_an_earlier_life_skips_nothing(
    pub: QPublisher, topic: str, subscribe: Callable[..., QSubscriber], what: str
) -> None:
    pub.publish_many(topic, list(range(10)))
    with subscribe(topic, "s") as old:
        before = old.fetch()
        if what == "topic":
            pub.delete_topic(topic)
            pub.create_topic(topic)
            pub.publish_many(topic, list(range(10)))
        else:
            old.unsubscribe()
        with subscribe(topic, "s") as new:
            for late in (
                lambda: old.ack(before[-1]),
                lambda: old.ack(7),
                lambda: old.fetch(after=9),
            ):
                with pytest.raises(StaleEpoch):
                    late()
                assert new.position == 0
            assert [m.offset for m in old.fetch()] == list(range(1, 11))


@pytest.mark.parametrize("what", ["subscriber", "topic"])
def test_P9_a_reader_at_work_begins_the_new_life_with_all_others(
    pub: QPublisher, topic: str, subscribe: Callable[..., QSubscriber], what: str
) -> None:
    """consume() is in the middle of a batch when its subscriber, or the topic, is made anew."""
    pub.publish_many(topic, [f"old {n}" for n in range(10)])
    worked: list[str] = []
    with subscribe(topic, "s") as sub:
        for message in sub.consume(wait=0):
            worked.append(message.payload)
            if len(worked) != 5:
                continue
            if what == "topic":
                pub.delete_topic(topic)
                pub.create_topic(topic)
                pub.publish_many(topic, [f"new {n}" for n in range(12)])
            else:
                sub.unsubscribe()
            with subscribe(topic, "s") as anew:
                assert anew.position == 0
        assert sub.position == len(worked) - 10
    expected = (
        [f"new {n}" for n in range(12)] if what == "topic" else [f"old {n}" for n in range(10)]
    )
    assert worked == [f"old {n}" for n in range(10)] + expected


def test_P10_an_unknown_outcome_is_said(server: ServerProcess, topic: str) -> None:
    with cutting(server.url, 1000) as deaf, QPublisher(deaf.url, timeout=2) as pub:
        with pytest.raises(OutcomeUnknown):
            pub.reset_topic(topic, 0)
        assert deaf.cut == 1  # no retry: a reset moves everybody once more
        with pytest.raises(OutcomeUnknown) as unknown:
            pub.publish(topic, "told by hand")
        assert deaf.cut > 2
        deaf.left = 0
        assert pub.publish(topic, "told by hand", sequence=unknown.value.sequence) == 1
    with cutting(server.url, 1000) as deaf, QPublisher(deaf.url, timeout=1) as pub:
        with pytest.raises(Unavailable):  # a read: nothing happened
            pub.browse(topic)
        assert deaf.cut > 2
    with cutting(server.url, 3) as flaky, QPublisher(flaky.url) as pub:
        assert pub.publish_many(topic, ["a", "b"]) == range(2, 4)
        assert flaky.cut == 3
        kept = [m.payload for m in pub.browse(topic)]
    assert kept == ["told by hand", "a", "b"]


def test_P10_without_numbers_a_retry_would_store_twice(server: ServerProcess, topic: str) -> None:
    # the control: the same request again, by a client that does not number it
    for _ in range(2):
        server.call("POST", f"/topics/{topic}/messages", {"payloads": ["twice"]})
    assert server.call("GET", f"/topics/{topic}").json()["head"] == 2


def workers_share(urls: tuple[str, str], now: Callable[[str], None]) -> None:
    """Two workers at two servers: each message is one's alone until it is done, dead, or its time is over."""
    over = "update queue.hold set due_at = clock_timestamp() where due_at > clock_timestamp()"
    with (
        QSubscriber("t", "s", "earliest", max_attempts=3, backoff=0, url=urls[0]) as one,
        QSubscriber("t", "s", url=urls[1]) as other,
    ):
        kept, lost = other.lease(3, seconds=600), one.lease(3, seconds=0.001)
        assert ([m.offset for m in kept], [m.offset for m in lost]) == ([1, 2, 3], [4, 5, 6])
        until(lambda: len(one.leases()) == 1, 40)
        with pytest.raises(LeaseExpired):  # though nobody else has asked for them
            lost.ack()
        again = other.lease(4, seconds=600)
        assert [(m.offset, m.attempt) for m in again] == [(4, 2), (5, 2), (6, 2), (7, 1)]
        for late in (lost.ack, lost.nack, lambda: lost.extend(600)):
            with pytest.raises(LeaseExpired):
                late()
        again.extend(3600)
        now(over)
        left = [m.offset for m in one.lease(10, seconds=600)]
        assert left == [1, 2, 3, 8]  # not the extended ones
        with pytest.raises(LeaseExpired):
            kept.ack()
        assert again.ack([4, 5, 7]).acked == 3
        assert again.nack(error="poison").nacked == 1
        poison = other.lease(10, seconds=600)
        assert [(m.offset, m.attempt) for m in poison] == [(6, 3)]
        assert poison.nack(error="poison").dead == 1
        now(over)
        done = []
        while rest := other.lease(10, seconds=600):
            done += [m.offset for m in rest]
            rest.ack()
        assert sorted(done) == left  # nothing is dropped
        assert other.lag == 0
        assert [(m.offset, m.attempts, m.error) for m in other.dead()] == [(6, 3, "poison")]


@pytest.fixture
def now(connect: Callable[[], connection]) -> Callable[[str], None]:
    """Carry a statement out on the test's database."""

    def carry_out(statement: str) -> None:
        with connect() as session, session.cursor() as cursor:
            cursor.execute(statement)

    return carry_out


@pytest.fixture
def urls(start_server: Callable[..., ServerProcess]) -> tuple[str, str]:
    """Two servers on one database, with a topic of eight messages."""
    one, other = start_server(), start_server()
    with QPublisher(one.url) as pub:
        pub.create_topic("t")
        pub.publish_many("t", [*range(1, 9)])
    return one.url, other.url


def test_P11_leases(urls: tuple[str, str], now: Callable[[str], None]) -> None:
    workers_share(urls, now)


@pytest.mark.parametrize(("function", "right", "wrong"), [
    ("queue.held", 'if expires_at <= "time" and not isempty(part)', "if false"),
    ("queue.take_up", "when x.expires_at > p_time then", "when false then"),
    ("queue.bury", "insert into queue.dead", "return; insert into queue.dead"),
], ids=["an ack that ignores the expiry", "a lease that ignores extensions", "a message that is dropped"])  # fmt: skip
def test_P11_is_broken_by_bugs_that_are_planted(
    urls: tuple[str, str],
    now: Callable[[str], None],
    connect: Callable[[], connection],
    function: str,
    right: str,
    wrong: str,
) -> None:
    # the controls for the one above
    with connect() as session, session.cursor() as cursor:
        cursor.execute("select pg_get_functiondef(%s::regproc)", (function,))
        (source,) = cursor.fetchone() or ("",)
    assert right in source
    now(source.replace(right, wrong))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        workers_share(urls, now)


def test_P13_overload_is_503_and_loses_nothing(
    start_server: Callable[..., ServerProcess], connect: Callable[[], connection]
) -> None:
    server = start_server("--connections", "2")
    with QPublisher(server.url) as pub:
        pub.create_topic("t")
    blocker = connect()
    with blocker.cursor() as cursor:
        cursor.execute("select queue.publish('t', '\"blocker\"')")
    statuses: list[tuple[int, int]] = []

    def publish(number: int) -> None:
        answer = server.call("POST", "/topics/t/messages", {"payloads": [number]})
        if answer.status_code == 503:
            assert answer.json()["outcome"] == "none"
            assert int(answer.headers["Retry-After"]) >= 1
        statuses.append((answer.status_code, number))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: any(status == 503 for status, _ in statuses), 30)
    blocker.commit()
    for thread in threads:
        thread.join()
    with QPublisher(server.url) as pub:
        kept = [m.payload for m in pub.browse("t")]
    accepted = [number for status, number in statuses if status == 201]
    assert {status for status, _ in statuses} <= {201, 503}
    assert sorted(kept[1:]) == sorted(accepted)
