"""Publishes that are stored as one: each message, key and header where it would be if its batch were alone."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engines import Batch, Published
from server.engines.postgres import engine as engine_module
from server.engines.postgres import joining
from server.engines.postgres.engine import PostgresEngine
from tests.loop import Loop, looping

Row = tuple[object, str | None, object]
Join = Callable[[Sequence[Batch]], Batch]


def batch(rows: list[Row], number: int | None) -> Batch:
    """Rows as a batch; keys and headers only where there are any."""
    payloads, keys, headers = (list(column) for column in zip(*rows, strict=True))
    return Batch(
        json.dumps(payloads),
        len(rows),
        keys if any(keys) else None,
        json.dumps(headers) if any(headers) else None,
        None if number is None else "p",
        number,
    )


def rows(one: Batch) -> list[Row]:
    """A batch as rows."""
    payloads = json.loads(one.payloads)
    keys = one.keys or [None] * len(payloads)
    headers = json.loads(one.headers) if one.headers else [None] * len(payloads)
    return list(zip(payloads, keys, headers, strict=True))


ROW = st.tuples(
    st.sampled_from([1, "a", [1, 2], {"x": [3]}, None, "],["]),
    st.sampled_from([None, "k", ""]),
    st.sampled_from([None, {}, {"h": [1]}]),
)
BATCH = st.builds(
    batch, st.lists(ROW, min_size=1, max_size=3), st.none() | st.integers(min_value=0, max_value=9)
)


@given(st.lists(BATCH, max_size=8))
def test_all_is_there_in_its_order(batches: list[Batch]) -> None:
    runs = joining.runs(batches)
    assert [one for run in runs for one in run] == batches
    for run in runs:
        whole = joining.joined(run)
        assert rows(whole) == [row for one in run for row in rows(one)]
        assert whole.length == len(rows(whole))
        assert len(run) == 1 or all(one.sequence is None for one in run)
    assert not any(
        all(one.sequence is None for one in (*left, *right))
        for left, right in zip(runs, runs[1:], strict=False)
    )


@given(st.lists(st.integers(min_value=1, max_value=4_000), max_size=12))
def test_a_run_is_no_longer_than_a_batch_may_be(lengths: list[int]) -> None:
    runs = joining.runs([Batch("[]", length) for length in lengths])
    assert [one.length for run in runs for one in run] == lengths
    assert all(sum(one.length for one in run) <= 10_000 for run in runs)


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop in a thread."""
    with looping() as running:
        yield running


MIXED = [
    batch([(1, None, None)], None),
    batch([("a", "k", None), ("b", None, {"h": 1})], None),
    batch([(2, None, None)], 7),
    batch([([3], None, None)], None),
    batch([(4, None, {"h": 2})], None),
]


def stored(loop: Loop, engine: PostgresEngine, topic: str) -> list[Row]:
    """Publish the mixed batches at once; return what is stored, in order."""
    loop.run(engine.create_topic(topic, None))
    answers = loop.run(engine.publish(topic, MIXED))
    assert answers == [
        Published(1, 1, False),
        Published(2, 3, False),
        Published(4, 4, False),
        Published(5, 5, False),
        Published(6, 6, False),
    ]
    found = json.loads(f"[{loop.run(engine.browse(topic, 1, 100)).messages}]")
    return [(one["payload"], one.get("key"), one.get("headers")) for one in found]


def test_together_is_as_if_each_were_alone(loop: Loop, dsn: str) -> None:
    with asked(loop, dsn) as engine:
        assert stored(loop, engine, "t") == [row for one in MIXED for row in rows(one)]
        assert loop.run(engine.publish("t", MIXED[1:4]))[1] == Published(4, 4, True)


def test_a_run_without_its_keys_is_noticed(
    loop: Loop, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(run: Sequence[Batch]) -> Batch:
        return joining.joined(run)._replace(keys=None)

    monkeypatch.setattr(engine_module, "joined", careless)
    with asked(loop, dsn) as engine:
        assert stored(loop, engine, "t") != [row for one in MIXED for row in rows(one)]


@contextmanager
def asked(loop: Loop, dsn: str) -> Iterator[PostgresEngine]:
    """An engine on the test's database."""
    engine = PostgresEngine(dsn)
    try:
        yield engine
    finally:
        loop.run(engine.close())
