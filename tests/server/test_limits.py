"""The limits: what just fits is stored, what is just too much is refused, and nothing is half done."""

import json
from typing import Any

import pytest

from server.http.bounds import MAX_BODY
from server.http.decoding import MAX_MESSAGE
from tests.server.answers import ok, refused
from tests.server.working import Crew, offsets
from tests.server_process import ServerProcess

MIB = 1024 * 1024
JSON = {"Content-Type": "application/json"}


def publish(server: ServerProcess, topic: str, body: str) -> Any:
    """Publish a body as it is."""
    return server.call("POST", f"/topics/{topic}/messages", data=body.encode(), headers=JSON)


def head(server: ServerProcess, topic: str) -> int:
    """Return the topic's head."""
    return int(ok(server.call("GET", f"/topics/{topic}"))["head"])


def test_the_limits_are_as_promised() -> None:
    assert (MAX_MESSAGE, MAX_BODY) == (MIB, 16 * MIB)


@pytest.mark.parametrize(
    ("payload", "key", "headers"),
    [(MIB - 2, "", ""), (MIB - 2 - 7, "k" * 7, ""), (MIB - 2 - 6 - 3, "é" * 3, "{ }")],
)
def test_a_message_has_a_mebibyte(
    server: ServerProcess, topic: str, payload: int, key: str, headers: str
) -> None:
    for size, fits in ((payload, True), (payload + 1, False)):
        body = f'{{"payloads": ["", "{"x" * size}"], "keys": [null, "{key}"]'
        body += f', "headers": [null, {headers}]}}' if headers else "}"
        answer = publish(server, topic, body)
        if fits:
            ok(answer, 201)
        else:
            assert "message 1 has 10485" in refused(answer, "message_too_large")["detail"]
    assert head(server, topic) == 2


def test_a_body_has_sixteen_mebibytes(server: ServerProcess, topic: str) -> None:
    messages = ",".join(["1"] * 100)
    fits = f'{{"payloads": [{messages}]}}'
    fits += " " * (16 * MIB - len(fits))
    ok(publish(server, topic, fits), 201)
    refused(publish(server, topic, fits + " "), "body_too_large")
    refused(publish(server, topic, fits * 3), "body_too_large")  # and the answer is heard
    assert head(server, topic) == 100


def test_a_batch_has_ten_thousand_messages(server: ServerProcess, topic: str) -> None:
    batch = {"payloads": list(range(10_000)), "keys": [str(n) for n in range(10_000)]}
    assert ok(server.call("POST", f"/topics/{topic}/messages", batch), 201)["count"] == 10_000
    batch["payloads"].append(0)
    batch["keys"].append("")
    refused(server.call("POST", f"/topics/{topic}/messages", batch), "invalid_request")
    assert head(server, topic) == 10_000
    found = ok(server.call("GET", f"/topics/{topic}/messages?limit=10001"))["messages"]
    assert [(m["offset"], m["payload"], m["key"]) for m in found] == [
        (n + 1, n, str(n)) for n in range(10_000)
    ]


@pytest.mark.parametrize("field", ["payloads", "headers"])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_json_is_64_deep(
    server: ServerProcess, topic: str, field: str, opening: str, closing: str
) -> None:
    # the headers are an object already
    outer = ('{"h":', "}") if field == "headers" else ("", "")
    inside = 63 if field == "headers" else 64
    for deep, fits in ((inside, True), (inside + 1, False), (900, False), (100_000, False)):
        value = outer[0] + opening * deep + "1" + closing * deep + outer[1]
        payload = value if field == "payloads" else "1"
        body = f'{{"payloads": [{payload}]' + (f', "headers": [{value}]}}' if outer[0] else "}")
        answer = publish(server, topic, body)
        ok(answer, 201) if fits else refused(answer, "invalid_message")
    assert head(server, topic) == 1


def test_brackets_in_text_are_not_depth(server: ServerProcess, topic: str) -> None:
    text = json.dumps('[{"\\' * 1000)
    ok(publish(server, topic, f'{{"payloads": [{text}, [{text}]]}}'), 201)
    assert head(server, topic) == 2


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("NaN", "invalid_json"),
        ("Infinity", "invalid_json"),
        ("-Infinity", "invalid_json"),
        ("01", "invalid_json"),
        ("1e400", "invalid_message"),
        ("-1e400", "invalid_message"),
        ("1" * 5000, "invalid_message"),
        ("-" + "1" * 5000, "invalid_message"),
        ("1e309", "invalid_message"),
        ("1E+309", "invalid_message"),
        ("0.1e0310", "invalid_message"),
        ("2" * 210 + "e99", "invalid_message"),
        ("1" * 310 + ".5", "invalid_message"),
    ],
)
def test_numbers_that_no_reader_takes_are_refused(
    server: ServerProcess, topic: str, number: str, code: str
) -> None:
    # the inner member makes the server look for members that are given twice
    for value in (number, f'{{"payloads": {number}}}'):
        refused(publish(server, topic, f'{{"payloads": [1, {value}]}}'), code)
        refused(publish(server, topic, f'{{"payloads": [1], "headers": [{{"h": {value}}}]}}'), code)
    assert head(server, topic) == 0


def test_numbers_that_readers_take_are_stored(server: ServerProcess, topic: str) -> None:
    numbers = ["1e308", "1E+308", "-1e-400", "1" * 4300, "0." + "1" * 400, "1" * 210 + "e99"]
    numbers += ['"1e400"', '"' + "1" * 5000 + '"', '"4e123456-0e99"']
    ok(publish(server, topic, f'{{"payloads": [{",".join(numbers)}]}}'), 201)
    text = server.call("GET", f"/topics/{topic}/messages").text
    assert all(f'"payload":{number}}}' in text for number in numbers)


def test_an_answer_has_eight_mebibytes_but_at_least_one_message(
    server: ServerProcess, topic: str
) -> None:
    size = MIB - 100
    for _ in range(2):
        batch = {"payloads": ["x" * size] * 10}
        ok(server.call("POST", f"/topics/{topic}/messages", batch), 201)
    ok(server.call("POST", f"/topics/{topic}/subscribers", {"subscriber": "s", "start": 0}), 201)
    for path in ("messages?limit=20", "subscribers/s/messages?limit=20"):
        answer = server.call("GET", f"/topics/{topic}/{path}")
        offsets = [message["offset"] for message in ok(answer)["messages"]]
        assert offsets == list(range(1, 9))
        assert len(answer.content) < 8 * MIB
    one = server.call("GET", f"/topics/{topic}/subscribers/s/messages?limit=1&after=19")
    assert [message["offset"] for message in ok(one)["messages"]] == [20]


def test_a_lease_and_a_list_of_dead_letters_have_eight_mebibytes(
    server: ServerProcess, topic: str
) -> None:
    size = MIB - 100
    for _ in range(2):
        batch = {"payloads": ["x" * size] * 10}
        ok(server.call("POST", f"/topics/{topic}/messages", batch), 201)
    crew = Crew(server, topic)
    crew.subscribe(max_attempts=1)
    leases = [crew.lease(20) for _ in range(3)]
    assert [offsets(leased) for leased in leases] == [
        [*range(1, 9)],
        [*range(9, 17)],
        [*range(17, 21)],
    ]
    for leased in leases:
        crew.nack(leased)
    assert offsets(crew.dead("?limit=20")) == [*range(1, 9)]
    assert offsets(crew.dead("?limit=20&after=19")) == [20]


def test_an_answer_is_bounded_whatever_the_messages_are(server: ServerProcess, topic: str) -> None:
    # a control character is one byte of a key, and six in the answer
    for count, key in ((2, "\x01" * (MIB - 1)),) * 2 + ((10_000, "k"),):
        batch = {"payloads": [1] * count, "keys": [key] * count}
        ok(server.call("POST", f"/topics/{topic}/messages", batch), 201)
    offset = 0
    while offset < 4:
        answer = server.call("GET", f"/topics/{topic}/messages?limit=10000&offset={offset + 1}")
        assert len(answer.content) < 9 * MIB
        offset = ok(answer)["messages"][-1]["offset"]
    assert offset > 1000
