"""What the parts measure with, once and on a small scale: the counts are right, whatever the times are."""

import math

import pytest
from psycopg2.extensions import make_dsn

from server.engines.postgres.embedded import EmbeddedPostgres
from tests.bench import buffered, fanout, fetch, growth, held, latency, publish, publishers
from tests.bench.load import has_wrk, pgbench, wrk
from tests.bench.machine import NotDurableError, describe
from tests.bench.messages import HTTP, QLIB, SQL, Plain, array, batches, payloads
from tests.bench.peers.ours import Ours
from tests.bench.rounds import P50, P99, RATE, interleave
from tests.bench.stand import Stand
from tests.bench.wire import Wire


def heads(stand: Stand) -> dict[str, int]:
    cursor = stand.cursor()
    cursor.execute("select topic, head from queue.topics")
    return dict(cursor.fetchall())


def rows(stand: Stand, table: str) -> int:
    cursor = stand.cursor()
    cursor.execute(f"select count(*) from {table}")
    ((count,),) = cursor.fetchall()
    return int(count)


def test_payloads_are_different_json_of_the_size_asked_for() -> None:
    texts = payloads(1000, 100)
    assert {len(text.encode()) for text in texts} == {100}
    assert len(set(texts)) == 1000
    assert [len(part) for part in batches(texts, 300)] == [300, 300, 300, 100]


@pytest.mark.parametrize("size", [1, 3])
def test_every_way_to_publish_publishes_everything(stand: Stand, size: int) -> None:
    before = heads(stand)
    copied = rows(stand, "plain") if rows(stand, "pg_class where relname = 'plain'") else 0
    with Ours(f"in SQL, {size}", stand) as ours:
        results = publish.measure(stand, 2, "case", payloads(6), size, ours)
        assert ours.drain(6) == 6
    plain = "INSERT" if size == 1 else "COPY"
    assert [r.contender for r in results] == [plain, ours.name, HTTP, QLIB]
    after = heads(stand)
    assert [after[topic] for topic in sorted(after.keys() - before.keys())] == [18] * 2
    assert rows(stand, "plain") - copied == 18


def test_every_way_to_publish_singles_publishes_all_of_them(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffered, "_PLAIN_MESSAGES", 2)
    monkeypatch.setattr(buffered, "_MESSAGES", 7)
    monkeypatch.setattr(buffered, "_BATCH", 3)
    before = heads(stand)
    results = buffered.run(stand, 1)
    ways = [buffered.PLAIN, buffered.KEPT, buffered.NOT_KEPT, buffered.MANY]
    assert [(r.contender, r.unit) for r in results] == [(way, RATE) for way in ways]
    after = heads(stand)
    # each a warm-up and a round
    assert [after[topic] for topic in sorted(after.keys() - before.keys())] == [4, 14, 14, 14]


def test_every_way_to_fetch_fetches_everything(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "STOCK", 100)
    monkeypatch.setattr(fetch, "COUNTS", {10: 50})
    topic = fetch.stocked(stand, 100)
    results = fetch.measure(stand, 1, topic, 10, 100)
    assert [r.contender for r in results] == ["SELECT", SQL, HTTP, QLIB]
    with pytest.raises(AssertionError, match="a fetch was short"):
        fetch.walking(lambda after: 9, 10)()


def test_the_programs_in_c_do_what_they_are_told(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishers, "_TRANSACTIONS", {4: 40})
    topics = stand.topics(2)
    inserting, calling, *posting = publishers.singles(stand, 4, topics)
    before = rows(stand, "plain")
    for contender in (inserting, calling):
        figures = contender.work()
        assert not isinstance(figures, int) and figures.keys() == {RATE, P50, P99}
    assert rows(stand, "plain") - before == 40
    assert [heads(stand)[topic] for topic in topics] == [20, 20]
    assert len(posting) == has_wrk()


@pytest.mark.skipif(not has_wrk(), reason="wrk is not installed")
def test_wrk_is_believed_only_when_all_went_well(stand: Stand) -> None:
    topics = stand.topics(2)
    figures = wrk(stand.url, topics, payloads(3), 2)
    one, other = (heads(stand)[topic] for topic in topics)
    assert figures.keys() == {RATE, P50, P99}
    assert one and one % 3 == other % 3 == 0 and abs(one - other) <= 9  # two were under way
    with pytest.raises(AssertionError):
        wrk(stand.url, ["nowhere"], payloads(3))


def test_pgbench_is_believed_only_when_all_went_well(stand: Stand) -> None:
    with pytest.raises(AssertionError, match="does not exist"):
        pgbench(stand.served, "select queue.publish('nowhere', '1');", 2)


@pytest.mark.parametrize("way", [HTTP, QLIB])
def test_every_message_has_its_latency(stand: Stand, way: str) -> None:
    topic = stand.topic()
    session = stand.cursor()

    def late(due: float) -> None:
        session.execute("select queue.publish(%s, %s)", (topic, str(due - 1000)))

    figures = latency.deliver(stand.url, topic, way, late, 5, math.inf)
    assert figures.keys() == {RATE, P50, P99}
    assert 1_000_000 < figures[P50] <= figures[P99] < 1_100_000
    assert heads(stand)[topic] == 5


def test_growth_makes_its_calls_in_every_queue(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [growth.Size(1, 100), growth.Size(1, 200), growth.Size(2, 100)]
    for name, size in zip(("SMALL", "MESSAGES", "TOPICS"), sizes, strict=True):
        monkeypatch.setattr(growth, name, size)
    monkeypatch.setattr(growth, "_FINER", 1)
    few = {name: (act, messages, 2) for name, (act, messages, _) in growth.CALLS.items()}
    monkeypatch.setattr(growth, "CALLS", few)
    results = growth.run(stand, 1)
    assert [(r.case, r.contender) for r in results if r.unit == P50] == [
        (call, str(size)) for call in few for size in sizes
    ]
    for size in sizes:
        cursor = stand.cursor(make_dsn(stand.served, dbname=str(size)))
        cursor.execute("select sum(head)::int from queue.topics")
        # a warm-up and a round of two publishes of 1 and two of 100
        assert cursor.fetchall() == [(size.topics * size.messages + 2 * (2 + 200),)]
        cursor.execute("select count(*) from queue.position where cause = 'ack'")
        assert cursor.fetchall() == [(2 * 2,)]


def test_the_snapshot_is_held(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_TURN", 2)
    results = held.run(stand, 1)
    assert [r.contender for r in results if r.unit == P50] == ["INSERT", SQL, "lab: counter_row"]
    assert {len(r.rounds) for r in results} == {50}
    assert heads(stand)[held.PART] == 100
    cursor = stand.cursor()
    cursor.execute("select datname from pg_stat_activity where state = 'idle in transaction'")
    assert sorted(cursor.fetchall()) == [("counter",), ("queue",)]


def test_the_client_as_a_peer(stand: Stand) -> None:
    with fanout.Client(stand) as peer:
        (result,) = interleave("fanout", "K = 2", [fanout.contender(peer, 2, 4)], 1)
    assert (result.contender, result.unit) == (QLIB, RATE)
    cursor = stand.cursor()
    cursor.execute("""select head, "position" from queue.subscribers where subscriber ~ '^reader-'
                      and topic in (select topic from queue.topics where subscribers = 2)""")
    assert cursor.fetchall() == [(4, 4)] * 4


def test_the_wire_believes_no_error(stand: Stand) -> None:
    with Wire(stand.url) as wire:
        assert b'"status"' in wire.get("/health")
        with pytest.raises(AssertionError, match="topic_not_found"):
            wire.post("/topics/nowhere/messages", b'{"payloads": [1]}')


def test_the_plain_table_is_shaped_like_the_queue(stand: Stand) -> None:
    plain = Plain(stand)
    plain.insert("1")
    plain.copy(plain.rows(["2", '{"a": "b"}']))
    cursor = stand.cursor()
    cursor.execute("select * from queue.message limit 0")
    columns = cursor.description
    cursor.execute('select * from plain where topic_id = %s order by "offset"', (plain.topic,))
    assert cursor.description == columns
    assert [(row[1], row[5]) for row in cursor.fetchall()] == [(1, 1), (2, 2), (3, {"a": "b"})]
    assert array(["1", "[2]"]) == "[1,[2]]"


def test_what_is_not_durable_is_not_measured(stand: Stand, cluster: EmbeddedPostgres) -> None:
    assert describe(stand.cursor())["postgres"]["fsync"] == "on"
    with pytest.raises(NotDurableError, match="fsync, full_page_writes"):
        describe(stand.cursor(cluster.dsn))
