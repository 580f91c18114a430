"""Values: read from JSON strictly, frozen, short to look at, safe to show."""

import copy
import inspect
import pickle
import re
from dataclasses import FrozenInstanceError, asdict, astuple, fields, is_dataclass, replace
from datetime import UTC, datetime

import pytest

from qlib import Batch, Message, Reset, Subscriber, Topic
from qlib.views import Listing
from tests.qlib.hostile import made, message, subscriber, topic

RESET = {"topic": "orders", "offset": 0, "subscribers": 3}
BATCH = {
    "topic": "orders",
    "subscriber": "billing",
    "position": 4,
    "epoch": 2,
    "head": 9,
    "messages": [message(5, {"a": 1})],
}


def the_message(answer, topic="orders", *subscriber_and_epoch):
    """Return the one message of a browse, or of a fetch by this subscriber in this epoch."""
    fetched = dict(zip(("subscriber", "epoch"), subscriber_and_epoch, strict=False))
    if fetched:
        fetched["position"] = 0
    (found,) = made(Batch, {"topic": topic, "head": 9, "messages": [answer], **fetched})
    return found


SCRIPT = "<script>alert('x')</script>"


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        (Topic, topic()),
        (Subscriber, subscriber()),
        (Reset, RESET),
        (Message, message(1)),
        (Batch, BATCH),
    ],
)
def test_reading_is_strict_about_members_and_relaxed_about_more(kind, good):
    def read(answer):
        return the_message(answer) if kind is Message else made(kind, answer)

    assert read(good | {"new": "member"}) == read(good)
    refused = 0
    for name in good:
        broken = [{k: v for k, v in good.items() if k != name}]
        broken += [good | {name: wrong} for wrong in (True, 1.5, [7])]
        if name in ("payload", "description"):
            continue
        for answer in broken:
            if name == "epoch" and "epoch" not in answer:
                continue  # that is a browse
            with pytest.raises(ValueError):
                read(answer)
            refused += 1
    assert refused >= 8


def test_times_have_a_zone():
    assert made(Topic, topic()).created_at == datetime(2024, 2, 29, 12, 0, 0, 1, UTC)
    assert made(Topic, topic(created_at="2024-02-29T12:00:00Z")).created_at.tzinfo
    with pytest.raises(ValueError, match="timezone"):
        made(Topic, topic(created_at="2024-02-29T12:00:00"))


def test_values_are_frozen():
    for value in (made(Topic, topic()), the_message(message(1), "t"), Reset("a", 1, 2)):
        for field in fields(value):
            with pytest.raises(FrozenInstanceError):
                setattr(value, field.name, "other")


VALUES = [
    (Topic, topic()),
    (Subscriber, subscriber()),
    (Reset, RESET),
    (Message, message(1, {"a": [1]}) | {"key": "k", "headers": {"h": 1}}),
]


@pytest.mark.parametrize(("kind", "answer"), VALUES)
def test_values_are_dataclasses(kind, answer):
    value = the_message(answer, "t", "s", 3) if kind is Message else made(kind, answer)
    assert is_dataclass(kind) and is_dataclass(value)
    names = tuple(field.name for field in fields(kind))
    assert asdict(value) == {name: getattr(value, name) for name in names}
    assert kind.__match_args__ == names == arguments(kind)
    assert kind(*astuple(value)) == kind(**asdict(value)) == replace(value) == value
    other = replace(value, topic="another")
    assert (other.topic, other == value, value != other) == ("another", False, True)
    for twin in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert type(twin) is kind and asdict(twin) == asdict(value)
        assert (twin, hash(twin)) == (value, hash(value))
    assert value != asdict(value) and value != astuple(value)
    with pytest.raises(FrozenInstanceError):
        value.new = 1
    with pytest.raises(FrozenInstanceError):
        del value.topic


def arguments(kind):
    """Return the names that a value of this kind is made with, in order."""
    return tuple(inspect.signature(kind).parameters)


def test_values_can_be_matched():
    match the_message(message(5, {"dish": "soup"}), "orders", "billing", 3):
        case Message(5, {"dish": dish}, None, None, _, "orders", subscriber=name, epoch=3):
            assert (dish, name) == ("soup", "billing")
        case _:
            raise AssertionError


def test_a_message_needs_all_but_who_read_it():
    now = datetime.now(UTC)
    assert Message(1, 2, None, None, now, "t") == Message(1, 2, None, None, now, "t", "s", 4)
    with pytest.raises(TypeError, match="topic"):
        Message(1, 2, None, None, now)


@pytest.mark.parametrize("wrong", [{"key": 1}, {"headers": [1]}, {"headers": "x"}])
def test_keys_and_headers_are_what_they_are(wrong):
    with pytest.raises(ValueError, match="Expected"):
        the_message(message(1) | wrong)


@pytest.mark.parametrize("half", [{"subscriber": None}, {"position": None}, {"epoch": None}])
def test_a_batch_of_half_a_subscriber_is_refused(half):
    with pytest.raises(ValueError, match="a subscriber has a name"):
        made(Batch, BATCH | half)
    (name,) = half
    with pytest.raises(ValueError, match="a subscriber has a name"):
        made(Batch, {k: v for k, v in BATCH.items() if k != name})


def test_batch_is_a_tuple_that_knows_where_it_was_read():
    batch = made(Batch, BATCH)
    assert isinstance(batch, tuple)
    assert (batch.topic, batch.position, batch.epoch, batch.head) == ("orders", 4, 2, 9)
    assert [(m.offset, m.payload, m.epoch) for m in batch] == [(5, {"a": 1}, 2)]
    browsed = made(Batch, {"topic": "orders", "floor": 1, "head": 9, "messages": [message(5)]})
    assert (browsed.position, browsed.epoch) == (None, None)
    assert [(m.topic, m.subscriber, m.epoch) for m in (batch[0], browsed[0])] == [
        ("orders", "billing", 2),
        ("orders", None, None),
    ]
    assert batch[0].topic is batch.topic  # one text for all of them
    for twin in (copy.copy(batch), pickle.loads(pickle.dumps(batch))):
        assert type(twin) is Batch
        assert (twin, vars(twin)) == (batch, vars(batch))


def test_messages_are_equal_whoever_read_them():
    one = the_message(message(1, {"a": 1}), "orders", "billing", 1)
    others = [
        the_message(message(1, {"a": 1}), "orders", "billing", 2),
        the_message(message(1, {"a": 1}), "orders", "kitchen", 1),
        the_message(message(1, {"a": 1}), "orders"),
    ]
    assert {one, *others} == {one}
    assert one != the_message(message(1, {"a": 2}), "orders", "billing", 1)
    assert one != the_message(message(1, {"a": 1}), "bills", "billing", 1)


def test_repr_is_short_and_tells_no_time():
    assert (
        repr(the_message(message(5, {"a": 1}), "orders", "billing", 3))
        == "Message(offset=5, payload={'a': 1})"
    )
    assert repr(made(Batch, BATCH)) == "<Batch of 1 from orders, offsets 5 to 5>"
    assert repr(made(Batch, BATCH | {"messages": []})) == "<Batch of 0 from orders>"
    assert repr(made(Topic, topic())) == "Topic(topic='orders', floor=1, head=0, subscribers=0)"
    assert repr(the_message(message(5), "orders")) == "Message(offset=5, payload=None)"
    assert len(repr(the_message(message(1, "x" * 10_000), "orders"))) < 130


def test_html_is_escaped_and_small():
    fields = {
        "topic": SCRIPT,
        "messages": [message(n, SCRIPT) | {"key": SCRIPT} for n in range(1, 31)],
    }
    values = [
        made(Batch, BATCH | fields),
        made(Topic, topic(SCRIPT, description=SCRIPT)),
        made(Subscriber, subscriber(SCRIPT)),
        Reset(SCRIPT, 1, 2),
        Message(1, SCRIPT, SCRIPT, {SCRIPT: SCRIPT}, datetime.now(UTC), SCRIPT),
    ]
    for value in values:
        page = value._repr_html_()
        assert "<script" not in page
        assert "&lt;script" in page
    rows = values[0]._repr_html_().count("<tr>")
    assert rows == 1 + 10 + 1
    assert "20 more" in values[0]._repr_html_()


def columns(page: str) -> list[str]:
    return re.findall("<th>(.*?)</th>", page)


def test_a_batch_shows_headers_where_there_are_some():
    plain = {"messages": [message(1), message(2)]}
    assert "headers" not in columns(made(Batch, BATCH | plain)._repr_html_())
    some = {"messages": [message(1), message(2) | {"headers": {"trace": "<7>"}}]}
    page = made(Batch, BATCH | some)._repr_html_()
    assert "headers" in columns(page)
    assert "<td></td><td>{&#x27;trace&#x27;: &#x27;&lt;7&gt;&#x27;}</td><td>None</td>" in page


def test_a_batch_shows_when_its_messages_were_published():
    moment = {"published_at": "2026-01-02T03:04:05.678912+02:00"}
    page = made(Batch, BATCH | {"messages": [message(1) | moment]})._repr_html_()
    assert columns(page) == ["offset", "published_at", "key", "payload"]
    assert "<td>2026-01-02 01:04:05.678Z</td>" in page
    assert "published_at" not in made(Batch, BATCH | {"messages": []})._repr_html_()


def test_a_batch_shows_what_a_payload_is():
    found = {"messages": [message(1, "1"), message(2, 1), message(3)]}
    page = made(Batch, BATCH | found)._repr_html_()
    assert [row for row in re.findall("<td>([^<]*)</td></tr>", page)] == [
        "&#x27;1&#x27;",
        "1",
        "None",
    ]


def test_a_listing_is_a_list_and_a_table():
    topics = Listing(Topic, [made(Topic, topic("a", description="<i>")), made(Topic, topic("b"))])
    assert isinstance(topics, list) and topics == list(topics)
    page = topics._repr_html_()
    assert "<caption>2 topics</caption>" in page
    assert columns(page) == ["topic", "description", "floor", "head", "subscribers"]
    assert "<td>a</td><td>&lt;i&gt;</td><td>1</td>" in page and "<td>b</td><td></td>" in page
    for twin in (copy.copy(topics), pickle.loads(pickle.dumps(topics))):
        assert twin == topics and twin._repr_html_() == page


def test_a_listing_is_bounded_and_tells_the_rest():
    many = Listing(Subscriber, [made(Subscriber, subscriber(f"s{n}")) for n in range(1000)])
    page = many._repr_html_()
    assert page.count("<tr>") == 1 + 60 + 1 and "940 more" in page
    assert "<caption>0 subscribers</caption>" in Listing(Subscriber, [])._repr_html_()
    assert "<caption>1 subscriber</caption>" in Listing(Subscriber, many[:1])._repr_html_()
