"""An integer is one wherever a method takes one: numpy's too, and no bool, float or text."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qlib import InvalidRequest, QPublisher, QSubscriber
from tests.qlib.hostile import Hostile, answer, fetched, stored, subscriber

BROWSED = answer({"topic": "orders", "floor": 1, "head": 9, "messages": []})
RESET = answer({"topic": "orders", "offset": 7, "subscribers": 1})
ACKED = answer({"position": 7, "epoch": 1, "head": 9, "lag": 2})

PUBLISHER: dict[str, tuple[Any, Callable[[QPublisher, Any], object]]] = {
    "browse offset": (BROWSED, lambda pub, n: pub.browse("orders", n)),
    "browse limit": (BROWSED, lambda pub, n: pub.browse("orders", limit=n)),
    "reset_topic": (RESET, lambda pub, n: pub.reset_topic("orders", n)),
    "start": (answer(subscriber(), 201), lambda pub, n: begin(pub, n)),
    "publish sequence": (stored(1), lambda pub, n: pub.publish("orders", 1, sequence=n)),
}
SUBSCRIBER: dict[str, tuple[Any, Callable[[QSubscriber, Any], object]]] = {
    "fetch limit": (fetched(), lambda sub, n: sub.fetch(n)),
    "fetch after": (fetched(), lambda sub, n: sub.fetch(after=n)),
    "consume limit": (fetched(), lambda sub, n: list(sub.consume(n, wait=0))),
    "ack": (ACKED, lambda sub, n: sub.ack(n)),
    "seek": (answer(subscriber()), lambda sub, n: sub.seek(n)),
}
INTEGERS = [7, np.int64(7), np.uint8(7), np.int8(7)]
OTHERS = [True, np.bool_(True), 7.0, np.float64(7), "7", [7]]


def begin(publisher: QPublisher, start: Any) -> None:
    """Subscribe at the publisher's server."""
    QSubscriber("orders", "billing", start, url=publisher._transport.url).close()


def sent(state: Hostile) -> str:
    """Return the one request, as text, without what is new in each run."""
    (seen,) = state.seen
    fields = {**seen.query, **(seen.body if seen.raw else {})}
    fields.pop("producer", None)
    return f"{seen.method} {seen.path} {fields}"


@pytest.mark.parametrize("name", PUBLISHER)
def test_in_a_publisher(publishing: Callable[..., Any], name: str) -> None:
    step, act = PUBLISHER[name]
    told = set()
    for number in INTEGERS:
        state, publisher = publishing(step)
        act(publisher, number)
        told.add(sent(state))
    assert len(told) == 1 and "7" in told.pop()
    for other in OTHERS:
        state, publisher = publishing()
        with pytest.raises(InvalidRequest, match=", not "):
            act(publisher, other)
        assert state.seen == []


@pytest.mark.parametrize("name", SUBSCRIBER)
def test_in_a_subscriber(subscribed: Callable[..., Any], name: str) -> None:
    step, act = SUBSCRIBER[name]
    told = set()
    for number in INTEGERS:
        state, reader = subscribed(step)
        act(reader, number)
        told.add(sent(state))
    assert len(told) == 1 and "7" in told.pop()
    for other in OTHERS:
        state, reader = subscribed()
        with pytest.raises(InvalidRequest, match=", not "):
            act(reader, other)
        assert state.seen == []
