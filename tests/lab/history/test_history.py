"""What the stand-ins record, and verdicts on runs against a real server, right and spoilt."""

import inspect
import pickle
import threading
from collections import Counter
from collections.abc import Callable
from datetime import date
from time import monotonic

import pytest
from psycopg2.extensions import connection

from qlib import InvalidRequest, OffsetOutOfRange, OutcomeUnknown, QPublisher, QSubscriber
from qlib.lab.history import History, Operation
from qlib.lab.history.operation import Recorder, values
from qlib.lab.history.watched import WatchedPublisher, WatchedSubscriber
from tests.lab.checker.verdicts import names
from tests.lab.history.bench import Bench, Spoil

Subscribe = Callable[..., WatchedSubscriber]
SEQUENCE = "create sequence queue.numbers; grant usage on sequence queue.numbers to public"


@pytest.mark.parametrize(
    ("stand_in", "client"), [(WatchedPublisher, QPublisher), (WatchedSubscriber, QSubscriber)]
)
def test_a_stand_in_has_the_methods_of_its_client(stand_in: type, client: type) -> None:
    public = [name for name in dir(client) if not name.startswith("_")]
    assert len(public) >= 8
    assert [name for name in dir(stand_in) if not name.startswith("_")] == public
    for name in public:
        if not isinstance(getattr(client, name), property):
            own, its = inspect.signature(getattr(stand_in, name)), getattr(client, name)
            assert own == inspect.signature(its), name


def test_every_operation_is_recorded(bench: Bench, topic: str) -> None:
    pub = bench.pub
    assert pub.publish(topic, {"b": 1, "a": (2,)}) == 1
    assert pub.publish_many(topic, [1, "ü"], keys=["k", None]) == range(2, 4)
    sub = bench.subscriber(topic, "s")
    batch = sub.fetch(2)
    assert sub.ack(batch[0]) == 1 and sub.ack(2) == 2
    assert [m.payload for m in sub.fetch(5, after=1)] == [1, "ü"]
    assert (sub.position, sub.lag) == (2, 1)
    assert sub.seek(0, dry_run=True).epoch == sub.seek(1).epoch == (batch.epoch or 0) + 1
    assert pub.reset_topic(topic, 0).subscribers == 1
    assert [m.offset for m in pub.browse(topic, 2)] == [2, 3]
    assert pub.topic(topic).head == 3 and pub.topics() and len(pub.subscribers(topic)) == 1
    with pytest.raises(OffsetOutOfRange):
        sub.seek(9)
    verdict = bench.verdict()
    assert verdict, verdict
    recorded = {o.kind: o for o in bench.history.operations}
    assert all(o.start < o.end for o in bench.history.operations)
    assert recorded["final_read"].values == ('{"a":[2],"b":1}', "1", '"ü"')
    assert recorded["final_read"].head == 3 and recorded["final_read"].floor == 1
    assert (recorded["publish"].values, recorded["publish"].offsets) == (("1", '"ü"'), (2, 3))
    assert bench.outcomes() == Counter(
        {
            **{"publish ok": 2, "subscribe ok": 1, "fetch ok": 2, "ack ok": 2, "info ok": 2},
            **{"seek ok": 1, "seek fail": 1, "dry_run ok": 1, "reset ok": 1, "browse ok": 1},
            **{"topic ok": 1, "topics ok": 1, "subscribers ok": 1, "final_read ok": 1},
        }
    )
    sub.unsubscribe()
    pub.delete_topic(topic)
    pub.create_topic(topic)
    assert [o.kind for o in bench.history.operations[-3:]] == [
        "unsubscribe",
        "delete_topic",
        "create_topic",
    ]


def test_what_the_client_converts_is_recorded_as_it_travels(bench: Bench, topic: str) -> None:
    bench.pub.publish(topic, {"day": date(2026, 1, 2)})
    bench.pub.publish_many(topic, [{"day": date(2026, 1, 3)}])
    published = [o.values for o in bench.history.operations if o.kind == "publish"]
    assert published == [('{"day":"2026-01-02"}',), ('{"day":"2026-01-03"}',)]
    verdict = bench.verdict()
    assert verdict, verdict


def test_consume_goes_through_the_stand_in(bench: Bench, topic: str) -> None:
    bench.pub.publish_many(topic, range(5))
    sub = bench.subscriber(topic, "s")
    assert [m.payload for m in sub.consume(limit=2, wait=0)] == [0, 1, 2, 3, 4]
    acks = [o.offset for o in bench.history.operations if o.kind == "ack"]
    assert acks == [2, 4, 5] and bench.outcomes()["fetch ok"] == 4
    assert bench.verdict()


def test_a_batch_is_an_operation_and_an_error_tells_what_is_stored(
    bench: Bench, topic: str
) -> None:
    assert bench.pub.publish_many(topic, range(2500)) == range(1, 2501)
    sizes = [len(o.values) for o in bench.history.operations]
    assert sizes == [1000, 1000, 500]
    with pytest.raises(InvalidRequest) as failed:
        bench.pub.publish_many(topic, [*range(3000, 4100), object()])
    assert failed.value.published == range(2501, 3501)
    verdict = bench.verdict()
    assert verdict and verdict.observations == 3500, verdict


def test_a_batch_of_a_buffer_is_an_operation(bench: Bench, topic: str) -> None:
    with bench.pub.buffered(topic, linger=60, batch=2) as out:
        handles = [out.publish({"b": n, "a": (n,)}, key="k") for n in range(3)]
    assert [handle.result(0) for handle in handles] == [1, 2, 3]
    published = [(o.values, o.offsets) for o in bench.history.operations if o.kind == "publish"]
    first = ('{"a":[0],"b":0}', '{"a":[1],"b":1}')
    assert published == [(first, (1, 2)), (('{"a":[2],"b":2}',), (3,))]
    verdict = bench.verdict()
    assert verdict, verdict


def test_outcomes_follow_the_two_branches_of_the_errors() -> None:
    history = History()
    recorder = Recorder("p", history.add)
    doubt = OutcomeUnknown("cut")
    doubt.producer, doubt.sequence = "x", 7
    for error in (doubt, InvalidRequest("no"), KeyboardInterrupt()):

        def act(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            recorder.call("publish", "orders", act, values=values(["a"]))
    assert [(o.outcome, o.error, o.producer, o.sequence) for o in history.operations] == [
        ("unknown", "OutcomeUnknown", "p", 7),
        ("fail", "InvalidRequest", None, None),
        ("unknown", "KeyboardInterrupt", None, None),
    ]


def test_values_are_as_they_are_read_back() -> None:
    assert values([{10: 1, 9: (2,)}, 1.0, None]) == ('{"10":1,"9":[2]}', "1.0", "null")
    (refused,) = values([{1, 2}])
    assert refused == "{1, 2}"


def test_histories_travel_and_merge(bench: Bench, topic: str) -> None:
    bench.pub.publish(topic, 1)
    copy = pickle.loads(pickle.dumps(bench.history))
    assert copy.operations == bench.history.operations and len(copy.operations) == 1
    merged = History.merge([copy, History([Operation("info", "orders", 1, 2)])])
    assert [o.kind for o in merged.operations] == ["publish", "info"]
    with pytest.raises(LookupError):
        merged.final_read()


def test_a_run_of_many_threads_is_clean(bench: Bench, topic: str) -> None:
    def publish(number: int) -> None:
        pub = bench.publisher()
        for n in range(30):
            pub.publish_many(topic, [f"{number}-{n}-{k}" for k in range(n % 4 + 1)])

    def read(name: str) -> None:
        sub = bench.subscriber(topic, name)
        while published.is_alive() or sub.lag:
            for turn, _ in enumerate(sub.consume(limit=7, wait=0)):
                if turn == 10:
                    break

    def move() -> None:
        sub = bench.subscriber(topic, "kitchen")
        for n in range(10):
            head = bench.pub.topic(topic).head
            sub.seek(head // 2) if n % 2 else bench.pub.reset_topic(topic, head // 3)

    def all_publish() -> None:
        run(*(lambda n=n: publish(n) for n in range(3)))

    published = threading.Thread(target=all_publish, daemon=True)
    published.start()
    run(*(lambda n=n: read(n) for n in ("kitchen", "kitchen", "billing")), move)
    published.join(30)
    verdict = bench.verdict()
    assert verdict, verdict
    assert verdict.published == 3 * sum(n % 4 + 1 for n in range(30))
    assert verdict.observations > 2 * verdict.published
    assert bench.outcomes()["reset ok"] == 5 == bench.outcomes()["seek ok"]


def run(*acts: Callable[[], object]) -> None:
    threads = [threading.Thread(target=act, daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def overlapping(own: Bench, session: connection) -> None:
    """Publish in SQL, and meanwhile through the server; read before the first one commits."""
    start = monotonic()
    with session.cursor() as cursor:
        cursor.execute("select queue.publish('orders', '\"slow\"')")
        ((offset,),) = cursor.fetchall()
    own.pub.publish("orders", "fast")
    sub = own.subscriber("orders", "kitchen")
    sub.ack(sub.fetch()[-1])
    session.commit()
    told = {"values": values(["slow"]), "offsets": (offset,)}
    own.history.add(Operation("publish", "orders", start, monotonic(), **told))
    for message in sub.consume(wait=0):
        assert message


def test_offsets_from_a_sequence_are_caught(
    own: Bench, spoil: Spoil, connect: Callable[[], connection]
) -> None:
    session = connect()
    with session.cursor() as cursor:
        cursor.execute(SEQUENCE)
    session.commit()
    spoil("publish_batch", "perform pg_advisory_xact_lock(42, v_topic_id);", "")
    number = "v_head := nextval('queue.numbers') - 1;"
    insert = "if v_plain and not v_suspect then"
    spoil("publish_batch", insert, f"{number} {insert}")
    overlapping(own, session)
    assert names(own.verdict()) == {"poll-skip", "unseen"}


def test_the_highest_offset_plus_one_without_a_lock_is_caught(
    own: Bench, spoil: Spoil, connect: Callable[[], connection]
) -> None:
    session = connect()
    with session.cursor() as cursor:
        cursor.execute("alter table queue.message drop constraint message_pkey")
    session.commit()
    spoil("publish_batch", "perform pg_advisory_xact_lock(42, v_topic_id);", "")
    overlapping(own, session)
    assert "inconsistent-offsets" in names(own.verdict())


def test_an_ack_by_the_last_writer_is_caught(own: Bench, spoil: Spoil) -> None:
    spoil("ack", 'exit when p_offset <= v_reader."position";', "")
    own.pub.publish_many("orders", range(3))
    sub = own.subscriber("orders", "kitchen")
    batch = sub.fetch()
    sub.ack(batch[2])
    sub.ack(batch[0])
    sub.fetch()
    assert names(own.verdict()) == {"lost-ack"}


def test_a_reset_without_an_epoch_is_caught(own: Bench, spoil: Spoil) -> None:
    spoil("reset", "p.epoch + 1", "p.epoch")
    own.pub.publish_many("orders", range(3))
    sub = own.subscriber("orders", "kitchen")
    batch = sub.fetch()
    own.pub.reset_topic("orders", 0)
    sub.ack(batch[-1])
    sub.fetch()
    assert names(own.verdict()) == {"reset-undone"}


def test_the_same_steps_on_the_queue_as_it_is_are_clean(own: Bench) -> None:
    own.pub.publish_many("orders", range(3))
    sub = own.subscriber("orders", "kitchen")
    batch = sub.fetch()
    sub.ack(batch[2])
    assert sub.ack(batch[0]) == 3
    own.pub.reset_topic("orders", 0)
    assert not sub.fetch()[0].payload
    verdict = own.verdict()
    assert verdict and verdict.observations == 9, verdict
