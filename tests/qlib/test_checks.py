"""What people hand in by mistake is told in a sentence, and nothing is sent."""

import re
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from qlib import InvalidRequest, QPublisher, QSubscriber
from qlib.transport import Transport
from tests.qlib.hostile import acked, answer, fetched, hostile, subscriber, topic

NO_SECONDS = ["1", b"1", True, np.True_, float("nan"), float("inf"), -float("inf"), -1, -0.001]
NO_SECONDS += [10**400, -(10**400), Decimal(1), 1j, [1], pd.NaT, pd.NA, np.float32("nan"), object]
NO_INTEGERS = ["1", b"1", True, np.True_, 1.0, np.float64(1), Decimal(1), Fraction(1), [1], pd.NA]
NO_TEXTS = [b"orders", 7, True, ["orders"], object, 1.0]


class Named(StrEnum):
    ORDERS = "orders"


def refused(act, match: str) -> None:
    with pytest.raises(InvalidRequest, match=match):
        act()


@pytest.mark.parametrize("wrong", [None, 0, *NO_SECONDS], ids=repr)
def test_timeouts(wrong):
    refused(lambda: QPublisher(timeout=wrong), "timeout must be above 0 seconds, not ")
    refused(lambda: QSubscriber("t", timeout=wrong), "timeout must be above 0 seconds, not ")


@pytest.mark.parametrize("wrong", NO_SECONDS, ids=repr)
def test_waits(subscribed, wrong):
    state, reader = subscribed()
    refused(lambda: reader.fetch(wait=wrong), "wait must lie between 0 and 60 seconds, not ")
    # said at once, and not when the first message is asked for
    refused(lambda: reader.consume(wait=wrong), "wait is a number of seconds from 0 on, or None")
    refused(lambda: reader.consume(patience=wrong), "patience is a number of seconds from 0 on")
    refused(
        lambda: reader.consume(ack_every=wrong), "ack_every is a number of seconds from 0 on, n"
    )
    assert state.seen == []


def test_no_wait_and_too_long_a_wait(subscribed):
    state, reader = subscribed()
    for wrong in (None, 60.001, 61):
        refused(lambda wrong=wrong: reader.fetch(wait=wrong), "between 0 and 60 seconds")
    refused(lambda: reader.consume(ack_every=None), "ack_every is a number of seconds from 0 on, n")
    assert state.seen == []


@pytest.mark.parametrize("wrong", NO_INTEGERS, ids=repr)
def test_offsets_and_limits(subscribed, wrong):
    state, reader = subscribed()
    refused(lambda: reader.fetch(wrong), "limit is an integer, not ")
    refused(lambda: reader.fetch(after=wrong), "after is an offset, not ")
    refused(lambda: reader.consume(wrong), "limit is an integer, not ")
    with QPublisher(state.url) as publisher:
        refused(lambda: publisher.browse("orders", wrong), "an offset is an integer, not ")
        refused(lambda: publisher.browse("orders", limit=wrong), "limit is an integer, not ")
    assert state.seen == []


def test_limits_that_are_none(subscribed):
    state, reader = subscribed()
    refused(lambda: reader.fetch(None), "limit is an integer, not None")
    refused(lambda: reader.consume(None), "limit is an integer, not None")
    assert state.seen == []


@pytest.mark.parametrize("wrong", NO_TEXTS, ids=repr)
def test_names(wrong):
    with hostile() as server, QPublisher(server.url) as publisher:
        for act in (
            lambda: QSubscriber(wrong, url=server.url),
            lambda: QSubscriber("orders", wrong, url=server.url),
            lambda: publisher.create_topic(wrong),
            lambda: publisher.create_topic("orders", wrong),
            lambda: publisher.topic(wrong),
            lambda: publisher.delete_topic(wrong),
            lambda: publisher.publish(wrong, 1),
            lambda: publisher.browse(wrong),
            lambda: publisher.subscribers(wrong),
            lambda: publisher.reset_topic(wrong, 0),
        ):
            refused(act, "is a text, not ")
        assert server.seen == []


@pytest.mark.parametrize(
    "wrong",
    ["", ".", "..", "a/b", "a b", "ä", "\ud800", "a\n", "a%2Fb", "a?b", "x" * 201, "\x1b[0m"],
    ids=ascii,
)
def test_names_that_break_the_rule(wrong):
    rule = "a name is 1 to 200 of A-Z a-z 0-9 . _ -, and not . or .., not "
    shown = repr(wrong) if len(wrong) < 80 else f"'{'x' * 78}…"
    with hostile() as server, QPublisher(server.url) as publisher:
        for act in (
            lambda: QSubscriber(wrong, url=server.url),
            lambda: QSubscriber("orders", wrong, url=server.url),
            lambda: publisher.create_topic(wrong),
            lambda: publisher.topic(wrong),
            lambda: publisher.delete_topic(wrong),
            lambda: publisher.publish(wrong, 1),
            lambda: publisher.publish_many(wrong, [1]),
            lambda: publisher.browse(wrong),
            lambda: publisher.subscribers(wrong),
            lambda: publisher.reset_topic(wrong, 0),
        ):
            refused(act, re.escape(rule + shown) + "$")
        assert server.seen == []


def test_the_longest_name_is_taken():
    longest = "aZ09._-" + "x" * 193
    with hostile(answer(topic())) as server, QPublisher(server.url) as publisher:
        publisher.topic(longest)
        assert server.seen[0].path == f"/topics/{longest}"


def test_no_name_where_one_is_needed():
    with hostile() as server, QPublisher(server.url) as publisher:
        refused(lambda: publisher.create_topic(None), "a topic's name is a text, not None")
        refused(lambda: QSubscriber(None, url=server.url), "a name is a text, not None")
        assert server.seen == []


@pytest.mark.parametrize("wrong", [7, b"http://host", ["http://host"]])
def test_settings_of_another_type(wrong):
    refused(lambda: Transport(wrong, None, 1.0), "the URL is a text, not ")
    with pytest.raises(InvalidRequest, match="the token is a text") as raised:
        Transport("http://host", wrong, 1.0)
    assert "host" not in str(raised.value)  # a token is not told


def test_what_means_the_same_is_taken():
    script = [answer(subscriber(), 201), fetched(1), fetched(1), acked(1), answer(topic())]
    with hostile(*script) as server:
        reader = QSubscriber(
            np.str_("orders"),
            np.str_("billing"),
            np.int64(0),
            url=server.url,
            timeout=np.float32(5),
        )
        reader.fetch(np.int16(7), wait=Fraction(5, 2), after=np.uint64(2**63))
        reader.fetch(wait=np.int8(1))
        reader.ack(np.int32(1))
        reader.close()
        with QPublisher(server.url, timeout=5) as publisher:
            publisher.topic(Named.ORDERS)
        assert [seen.query for seen in server.seen[1:3]] == [
            {"limit": "7", "wait": "2.5", "after": str(2**63), "epoch": "1"},
            {"limit": "100", "wait": "1"},
        ]
        assert server.seen[4].path == "/topics/orders"
