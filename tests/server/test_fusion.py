"""Fusion: publishes that share a transaction are answered, refused and lost each as if it were alone."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from random import Random
from typing import Any, TypeVar

import psycopg2
import pytest
from psycopg2.extensions import connection, make_dsn, parse_dsn

from server.engines import Ack, Acked, Batch, Fetch, Fetched, Published
from server.engines.errors import EngineError, Unavailable
from server.engines.postgres.engine import PostgresEngine
from server.engines.postgres.failures import problem
from server.queue import fusion, lines
from server.queue.fusion import Fusion
from server.queue.lines import Lines
from tests.loop import Loop, looping
from tests.proxy import CuttingProxy, cutting
from tests.server.history import faults
from tests.waiting import until

T = TypeVar("T")
Connect = Callable[[], connection]


def one(value: object, **numbers: object) -> Batch:
    """A batch of one message."""
    return Batch(f'["{value}"]', 1, **numbers)  # type: ignore[arg-type]


class Counting(PostgresEngine):
    """An engine that remembers how many publishes it was given at a time."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.groups: list[int] = []
        self.acks: list[int] = []

    async def publish(self, topic: str, batches: Sequence[Batch]) -> list[Published]:
        self.groups.append(len(batches))
        return await super().publish(topic, batches)

    async def ack(self, topic: str, acks: Sequence[Ack]) -> list[Acked]:
        self.acks.append(len(acks))
        return await super().ack(topic, acks)


class Stand:
    """An engine with the topic ``t``, a fusion in front of it, and publishers, on a loop."""

    def __init__(self, loop: Loop, engine: Counting, fusion: Fusion, connect: Connect) -> None:
        self.engine = engine
        self.fusion = fusion
        self.published: list[str] = []
        self._connect = connect
        self._loop = loop

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Carry a coroutine out."""
        return self._loop.run(coroutine)

    def publish(self, batch: Batch) -> Future[Published]:
        """Begin to publish."""
        return self.submit(self.fusion.publish("t", batch))

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine."""
        return self._loop.submit(coroutine)

    def lined_up(self, batches: Sequence[Batch]) -> list[Future[Published]]:
        """Begin to publish one batch after the other, while somebody else leads."""
        return [self._joined(batch) for batch in batches]

    def _joined(self, batch: Batch) -> Future[Published]:
        before = self.waiting()
        call = self.publish(batch)
        until(lambda: self.waiting() > before)
        return call

    def waiting(self) -> int:
        """How many wait for the topic."""
        line = self.lines.get("t")
        return len(line.waiting) if line else 0

    @property
    def lines(self) -> dict[str, Any]:
        """Who waits."""
        return self.fusion._publishes._lines

    @contextmanager
    def held(
        self, statement: str = "select queue.publish('t', '0')"
    ) -> Iterator[Future[Published]]:
        """Hold the topic's lock: a leader is stuck at it, with the message ``first``, and others line up."""
        until(lambda: not self.lines)
        with closing(self._connect()) as session, session.cursor() as cursor:
            cursor.execute(statement)
            before = len(self.engine.groups)
            leader = self.publish(one("first"))
            until(lambda: len(self.engine.groups) > before)
            yield leader
            session.commit() if "delete" in statement else session.rollback()

    def stored(self) -> list[tuple[int, str]]:
        """Return what the topic holds: offset and value."""
        with closing(self._connect()) as session, session.cursor() as cursor:
            cursor.execute("""select "offset", payload->>0 from (select "offset", json_build_array(payload) as payload
                              from queue.messages where topic = 't' order by "offset") m""")
            return cursor.fetchall()


@pytest.fixture
def make(
    dsn: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Stand]]:
    """Make stands, with a planted bug or without."""
    with closing(connect()) as session, session.cursor() as cursor:
        cursor.execute("select queue.create_topic('t')")
        session.commit()
    with looping() as loop, ExitStack() as stack:

        def make_one(
            planted: dict[str, object] | None = None,
            engine: Counting | None = None,
            patience: float = 5.0,
        ) -> Stand:
            for name, bug in (planted or {}).items():
                monkeypatch.setattr(fusion if name == "Lines" else lines, name, bug)
            engine = engine or Counting(dsn)
            stack.callback(lambda: loop.run(engine.close()))
            told: list[str] = []
            made = Fusion(engine, lambda topic, head: told.append(topic), patience=patience)
            stand = Stand(loop, engine, made, connect)
            stand.published = told
            if not planted:  # nobody is forgotten
                stack.callback(lambda: until(lambda: stand.lines == {}))
            return stand

        yield make_one


@pytest.fixture
def stand(make: Callable[..., Stand]) -> Stand:
    """A stand without a bug."""
    return make()


def outcome(call: Future[Published]) -> Published | EngineError:
    """Return how a call ended."""
    try:
        return call.result(20)
    except EngineError as problem:
        return problem


def test_those_who_wait_share_one_transaction(stand: Stand) -> None:
    """FIFO: the offsets are in the order of arrival; and everybody is told their own."""
    with stand.held() as leader:
        calls = stand.lined_up([one(n) for n in range(20)])
        assert stand.engine.groups == [1]
    assert leader.result(20).first_offset == 1
    assert [call.result(20) for call in calls] == [(n + 2, n + 2, False) for n in range(20)]
    assert stand.stored() == [(1, "first"), *((n + 2, str(n)) for n in range(20))]
    assert stand.engine.groups == [1, 20]
    assert stand.published == ["t", "t"]


def test_batches_keep_their_place_and_their_parts(stand: Stand) -> None:
    headers = '[{"h": 1}, null]'
    with stand.held():
        calls = stand.lined_up(
            [
                Batch("[1, 2, 3]", 3),
                Batch('["a", "b"]', 2, ["k", None], headers),
                Batch("[4]", 1, None, None, "p", 7),
            ]
        )
    assert [call.result(20) for call in calls] == [(2, 4, False), (5, 6, False), (7, 7, False)]
    found = stand.run(stand.engine.browse("t", 5, 2)).messages
    assert '"key":"k","headers":{"h": 1},"payload":"a"}' in found
    assert '"payload":"b"}' in found and found.count('"key"') == found.count('"headers"') == 1


def test_a_group_has_its_limits(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_MOST", 4)
    monkeypatch.setattr(lines, "_SIZE", 100)
    large = one("x" * 200)
    with stand.held():
        calls = stand.lined_up([one(0), one(1), large, *(one(n) for n in range(6)), large])
    assert [call.result(20).first_offset for call in calls] == list(range(2, 12))
    assert stand.engine.groups == [1, 2, 1, 4, 2, 1]


def test_keys_and_headers_count_in_a_groups_size(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_SIZE", 100)
    keyed, headed = Batch("[1]", 1, ["k" * 90]), Batch("[1]", 1, None, f'[{{"h":"{"v" * 90}"}}]')
    with stand.held():
        calls = stand.lined_up([one(0), keyed, one(1), headed, keyed, one(2)])
    assert [call.result(20).first_offset for call in calls] == list(range(2, 8))
    assert stand.engine.groups == [1, 2, 1, 1, 2]


def test_one_bad_publish_costs_few_statements(make: Callable[..., Stand]) -> None:
    halved(make())


def halved(stand: Stand) -> None:
    """Expect a group to be halved until the one that is bad is alone."""
    batches = [one(n) for n in range(64)]
    batches[37] = one("\\u0000")
    with stand.held():
        calls = stand.lined_up(batches)
    found = [outcome(call) for call in calls]
    assert [n for n, each in enumerate(found) if isinstance(each, EngineError)] == [37]
    assert [value for _, value in stand.stored()[1:]] == [str(n) for n in range(64) if n != 37]
    assert len(stand.engine.groups) == 1 + 1 + 2 * 6


def test_one_bad_publish_harms_no_neighbour(make: Callable[..., Stand]) -> None:
    neighbours(make())


def neighbours(stand: Stand) -> None:
    """Expect each of a group to be answered for itself alone."""
    stand.run(stand.fusion.publish("t", one("known", producer="p", sequence=1)))
    with stand.held():
        calls = stand.lined_up(
            [
                one("a"),
                one("\\u0000"),
                one("b"),
                one("other", producer="p", sequence=1),
                Batch("[1]", 1, ["\0"]),
                one("c"),
                Batch("[1]", 1, None, "[5]"),
            ]
        )
    found = [outcome(call) for call in calls]
    assert [
        each.code if isinstance(each, EngineError) else each.first_offset for each in found
    ] == [
        3,
        "invalid_message",
        4,
        "sequence_conflict",
        "invalid_request",
        5,
        "invalid_message",
    ]
    values = ["known", "first", "a", "b", "c"]
    assert stand.stored() == list(enumerate(values, 1))


def test_a_topic_that_is_gone_is_gone_for_everybody(stand: Stand) -> None:
    with stand.held("select queue.delete_topic('t')") as leader:
        calls = [leader, *stand.lined_up([one(n) for n in range(3)])]
    for call in calls:
        with pytest.raises(EngineError) as problem:
            call.result(20)
        assert problem.value.code == "topic_not_found"


def test_a_duplicate_is_seen_inside_a_group(stand: Stand) -> None:
    batches = [
        one("a", producer="p", sequence=1),
        one("b", producer="p", sequence=2),
        one("a", producer="p", sequence=1),
        one("a", producer="q", sequence=1),
        one("b", producer="p", sequence=2),
        one("a", producer="p", sequence=1),
    ]
    with stand.held():
        calls = stand.lined_up(batches)
    assert [call.result(20) for call in calls] == [
        (2, 2, False),
        (3, 3, False),
        (2, 2, True),
        (4, 4, False),
        (3, 3, True),
        (2, 2, True),
    ]
    assert stand.stored() == [(1, "first"), (2, "a"), (3, "b"), (4, "a")]
    assert stand.engine.groups == [1, 6]


class CutOff(Counting):
    """An engine that loses the database when a group's answer comes."""

    def __init__(self, dsn: str, proxy: CuttingProxy) -> None:
        super().__init__(dsn)
        self._proxy = proxy

    async def publish(self, topic: str, batches: Sequence[Batch]) -> list[Published]:
        if self.groups.count(len(batches)) and len(batches) > 1:
            self._proxy.left = 1  # the statement is prepared: what is cut is its outcome
        return await super().publish(topic, batches)


@contextmanager
def cut_off(
    make: Callable[..., Stand], dsn: str, planted: dict[str, object] | None = None
) -> Iterator[tuple[Stand, CuttingProxy]]:
    """A stand whose engine reaches its database through a proxy."""
    parts = parse_dsn(dsn)
    with cutting(f"{parts['host']}/.s.PGSQL.{parts['port']}", 0) as proxy:
        host, port = proxy.server_address[:2]
        led = make_dsn(dsn, host=str(host), port=port, sslmode="disable", gssencmode="disable")
        stand = make(planted, CutOff(led, proxy))
        try:
            yield stand, proxy
        finally:
            stand.run(stand.engine.close())  # or the proxy would wait for it


def test_an_unknown_outcome_is_unknown_to_all(make: Callable[..., Stand], dsn: str) -> None:
    lost(make, dsn)


def lost(make: Callable[..., Stand], dsn: str, planted: dict[str, object] | None = None) -> None:
    """Expect a lost connection to be told to all it concerns, and what they sent to be stored once."""
    with cut_off(make, dsn, planted) as (stand, proxy):
        with stand.held():
            first = stand.lined_up([one(n, producer="p", sequence=n) for n in range(5)])
        assert [call.result(20).first_offset for call in first] == [2, 3, 4, 5, 6]
        with stand.held():
            calls = stand.lined_up([one(n) for n in range(5)])
        found = [outcome(call) for call in calls]
        assert proxy.cut == 1
        # the database carried it out before the answer was lost, and each was told that it may have
        assert [value for _, value in stand.stored()[7:]] == list("01234")
        assert [isinstance(each, EngineError) and each.outcome for each in found] == ["unknown"] * 5


def test_a_numbered_publish_of_unknown_outcome_is_found_again(
    make: Callable[..., Stand], dsn: str
) -> None:
    with cut_off(make, dsn) as (stand, _):
        with stand.held():  # the statement for three is prepared
            stand.lined_up([one(n, producer="q", sequence=n) for n in range(3)])
        batches = [one(n, producer="p", sequence=n) for n in range(3)]
        with stand.held():
            calls = stand.lined_up(batches)
        assert {outcome(call).outcome for call in calls} == {"unknown"}  # type: ignore[union-attr]
        again = [stand.run(stand.fusion.publish("t", batch)) for batch in batches]
    assert again == [(6, 6, True), (7, 7, True), (8, 8, True)]


def test_a_wait_is_bounded_and_who_gives_up_is_not_sent(make: Callable[..., Stand]) -> None:
    given_up(make(patience=0.2))


def given_up(stand: Stand) -> None:
    """Expect those who wait for a stuck topic to be sent away, with nothing of theirs stored."""
    with stand.held() as leader:
        calls = [stand.publish(one(n)) for n in range(10)]
        for call in calls:
            problem = outcome(call)
            assert type(problem) is Unavailable and problem.outcome == "none"
        assert not leader.done()  # it is at the database, which has a limit of its own
    assert leader.result(20) == (1, 1, False)
    assert stand.run(stand.fusion.publish("t", one("last"))).first_offset == 2
    assert stand.stored() == [(1, "first"), (2, "last")]


def test_a_stuck_topic_harms_no_other(stand: Stand) -> None:
    stand.run(stand.engine.create_topic("other", None))
    with stand.held():
        stand.lined_up([one(n) for n in range(40)])
        assert stand.run(stand.fusion.publish("other", one(1))).first_offset == 1
        assert stand.engine.groups == [1, 1]  # one connection is stuck, however many wait


class Unheard(Counting):
    """An engine whose driver has no memory for a group's answer: the session lives, and there is no SQLSTATE."""

    async def publish(self, topic: str, batches: Sequence[Batch]) -> list[Published]:
        stored = await super().publish(topic, batches)
        if len(batches) > 1:
            error = psycopg2.DatabaseError("out of memory for query result")
            raise problem(error, writes=True)
        return stored


def test_an_answer_that_could_not_be_read_is_unknown_to_all_and_nothing_is_stored_twice(
    make: Callable[..., Stand], dsn: str
) -> None:
    stand = make(engine=Unheard(dsn))
    with stand.held():
        calls = stand.lined_up([one(n) for n in range(3)])
    found = [outcome(call) for call in calls]
    assert [isinstance(each, Unavailable) and each.outcome for each in found] == ["unknown"] * 3
    assert [value for _, value in stand.stored()] == ["first", "0", "1", "2"]


class Broken(Counting):
    """An engine with a bug: its groups fail in a way that nobody has thought of."""

    async def publish(self, topic: str, batches: Sequence[Batch]) -> list[Published]:
        stored = await super().publish(topic, batches)
        if len(batches) > 1:
            raise RuntimeError("after the commit")
        return stored


def test_what_nobody_thought_of_leaves_nobody_waiting_and_stores_nothing_twice(
    make: Callable[..., Stand], dsn: str
) -> None:
    stand = make(engine=Broken(dsn))
    with stand.held():
        calls = stand.lined_up([one(n) for n in range(3)])
    for call in calls:
        with pytest.raises(RuntimeError, match="after the commit"):
            call.result(20)
    assert [value for _, value in stand.stored()] == ["first", "0", "1", "2"]


def test_who_leaves_before_the_turn_is_not_sent_and_after_it_is(stand: Stand) -> None:
    leaves(stand)


def leaves(stand: Stand) -> None:
    """Expect a publish that was handed over to be carried out, though its caller left; no other one."""
    with stand.held() as leader:
        calls = stand.lined_up([one("left"), one("stayed")])
        assert calls[0].cancel()
        until(lambda: stand.waiting() == 1)
        assert leader.cancel()
    assert calls[1].result(20).first_offset == 2
    assert stand.stored() == [(1, "first"), (2, "stayed")]


def crowd(stand: Stand, publishers: int = 16, each: int = 40) -> None:
    """Publish from many tasks at once; expect each to be told where its messages are."""

    async def publish(publisher: int) -> list[tuple[str, int]]:
        told = []
        order = Random(publisher)
        for n in range(each):
            for _ in range(order.randrange(4)):  # some come while the others' group is at work
                await asyncio.sleep(0)
            numbers = {"producer": f"p{publisher}", "sequence": n} if publisher % 2 else {}
            value = f"{publisher}-{n}"
            stored = await stand.fusion.publish("t", one(value, **numbers))
            told.append((value, stored.first_offset))
        return told

    async def all_of_them() -> list[list[tuple[str, int]]]:
        return await asyncio.gather(*map(publish, range(publishers)))

    told = stand.run(all_of_them())
    wrong = faults([pair for own in told for pair in own], stand.stored())
    for own in told:  # each waited for its answer before it sent the next
        offsets = [offset for _, offset in own]
        wrong += ["order"] * (offsets != sorted(offsets))
    assert wrong == []
    assert len(stand.stored()) == publishers * each


def test_a_crowd_is_told_where_its_messages_are(stand: Stand) -> None:
    crowd(stand)
    assert len(stand.engine.groups) < 16 * 40  # some were together


def subscribed(stand: Stand, names: Sequence[str], messages: int = 100) -> dict[str, int]:
    """Publish messages and subscribe to all of them; return the epochs by name."""
    stand.run(stand.fusion.publish("t", Batch(json.dumps(list(range(messages))), messages)))
    epochs = {}
    for name in names:
        subscriber, _ = stand.run(stand.engine.subscribe("t", name, "earliest"))
        epochs[name] = int(json.loads(subscriber)["epoch"])
    return epochs


def test_acks_that_share_a_transaction_are_answered_each_for_itself(stand: Stand) -> None:
    epochs = subscribed(stand, ["b", "a", "c"])
    asked = [("b", 5, 0), ("a", 7, 0), ("a", 3, 0), ("c", 101, 0), ("b", 9, 1), ("a", 9, 0)]

    async def together() -> list[Any]:
        calls = [
            stand.fusion.ack("t", Ack(name, offset, epochs[name] + stale))
            for name, offset, stale in asked
        ]
        return await asyncio.gather(
            *calls, stand.fusion.ack("t", Ack("nobody", 1, 1)), return_exceptions=True
        )

    found = stand.run(together())
    told = [each.position if isinstance(each, Acked) else each.code for each in found]
    refusals = ["offset_out_of_range", "stale_epoch", 9, "subscriber_not_found"]
    assert told == [5, 7, 7, *refusals]
    assert {each.lag for each in found if isinstance(each, Acked)} == {95, 93, 91}


def test_a_stuck_position_keeps_no_other_subscriber(stand: Stand, connect: Connect) -> None:
    names = [f"s{n}" for n in range(8)]
    epochs = subscribed(stand, names)
    with closing(connect()) as session, session.cursor() as cursor:
        cursor.execute("select queue.ack('t', 's3', 1, %s)", (epochs["s3"],))
        for offset in (2, 3):
            calls = {
                name: stand.submit(stand.fusion.ack("t", Ack(name, offset, epochs[name])))
                for name in names
            }
            stuck = calls.pop("s3")
            assert {call.result(20).position for call in calls.values()} == {offset}
            if offset == 2:
                assert not stuck.done()
        session.commit()
    assert stuck.result(20).position == 3


def test_a_crowd_of_acks_moves_every_position_to_its_end(stand: Stand) -> None:
    names = [f"s{n}" for n in range(16)]
    epochs = subscribed(stand, names)

    async def ack(name: str) -> list[int]:
        order = Random(name)
        told = []
        for offset in range(1, 41):
            for _ in range(order.randrange(4)):
                await asyncio.sleep(0)
            found = await stand.fusion.ack("t", Ack(name, offset, epochs[name]))
            assert (found.epoch, found.head, found.lag) == (epochs[name], 100, 100 - offset)
            told.append(found.position)
        return told

    async def all_of_them() -> list[list[int]]:
        return await asyncio.gather(*map(ack, names))

    assert stand.run(all_of_them()) == [list(range(1, 41))] * 16
    assert len(stand.engine.acks) < 16 * 40


def test_looks_that_are_made_together_find_each_its_own(stand: Stand) -> None:
    epochs = subscribed(stand, ["a", "b", "c"])
    stand.run(stand.fusion.ack("t", Ack("a", 98, epochs["a"])))

    async def together() -> list[Any]:
        asked = [
            Fetch("a", 10),
            Fetch("b", 2, 50),
            Fetch("nobody", 1),
            Fetch("c", 1, None, epochs["c"] + 1),
            Fetch("b", 1, 100, epochs["b"]),
            Fetch("b", 2, 50),
        ]
        looks = [stand.fusion.look("t", fetch) for fetch in asked]
        return await asyncio.gather(*looks, return_exceptions=True)

    found = stand.run(together())
    told = [
        (each.position, [one["offset"] for one in json.loads(f"[{each.messages}]")])
        if isinstance(each, Fetched)
        else each.code
        for each in found
    ]
    a, b = (98, [99, 100]), (0, [51, 52])
    assert told == [a, b, "subscriber_not_found", "stale_epoch", (0, []), b]


def test_looks_together_take_no_more_bytes_than_one(stand: Stand) -> None:
    subscribed(stand, [f"s{n}" for n in range(64)], 1)
    for _ in range(2):
        stand.run(stand.fusion.publish("t", Batch(json.dumps(["x" * 100_000] * 4), 4)))

    async def together() -> list[Fetched]:
        return await asyncio.gather(
            *(stand.fusion.look("t", Fetch(f"s{n}", 100)) for n in range(64))
        )

    sizes = [len(each.messages) for each in stand.run(together())]
    assert min(sizes) > 100_000 and sum(sizes) < 9 * 2**20
    (alone,) = stand.run(stand.engine.fetch("t", [Fetch("s0", 100)]))
    assert len(alone.messages) > 800_000


class Mixed(Lines):  # type: ignore[type-arg]
    """A planted bug: the answers of a group are dealt out in the wrong order."""

    async def _outcomes(self, topic, calls):  # type: ignore[no-untyped-def]
        return list(reversed(await super()._outcomes(topic, calls)))


def harsh(calls: Any, outcomes: Any) -> Any:
    """A planted bug: one bad publish is bad for all."""
    return []


def stubborn(calls: Any, outcomes: Any) -> Any:
    """A planted bug: what may have happened is done again, each alone."""
    failed = len(calls) > 1 and isinstance(outcomes[0], Exception)
    return [[call] for call in calls] if failed else []


def each_alone(calls: Any, outcomes: Any) -> Any:
    """A planted bug: every one of a group is tried by itself."""
    failed = isinstance(outcomes[0], EngineError)
    return [[call] for call in calls] if failed and len(calls) > 1 else []


class Impatient(Lines):  # type: ignore[type-arg]
    """A planted bug: who gives up stays in the line."""

    def _give_up(self, line, call):  # type: ignore[no-untyped-def]
        line.waiting[lines._Call(call.item, call.holder, call.size)] = None
        call.end(Unavailable("gave up"))


class Selfish(Lines):  # type: ignore[type-arg]
    """A planted bug: a leader does not hand on the lead."""

    def _pass_on(self, topic, line):  # type: ignore[no-untyped-def]
        if not line.waiting:
            super()._pass_on(topic, line)


class Careless(Lines):  # type: ignore[type-arg]
    """A planted bug: who leaves takes the publish that is at the engine along."""

    async def call(self, topic, item):  # type: ignore[no-untyped-def]
        try:
            return await super().call(topic, item)
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            raise


@pytest.mark.parametrize(
    ("planted", "check"),
    [
        ({"Lines": Mixed}, lambda make, dsn, planted: crowd(make(planted))),
        ({"_parts": harsh}, lambda make, dsn, planted: neighbours(make(planted))),
        ({"_parts": each_alone}, lambda make, dsn, planted: halved(make(planted))),
        ({"Lines": Impatient}, lambda make, dsn, planted: given_up(make(planted, patience=0.2))),
        ({"Lines": Selfish}, lambda make, dsn, planted: crowd(make(planted, patience=0.2))),
        ({"Lines": Careless}, lambda make, dsn, planted: leaves(make(planted, patience=0.2))),
        ({"_parts": stubborn}, lost),
    ],
)
def test_planted_bugs_are_caught(
    make: Callable[..., Stand],
    dsn: str,
    planted: dict[str, object],
    check: Callable[..., object],
) -> None:
    """The control of the tests above."""
    with pytest.raises((AssertionError, EngineError)):
        check(make, dsn, planted)
