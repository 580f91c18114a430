"""What a door is opened with, and how names, headers and JSON go through it."""

import pytest
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from qlib import (
    InvalidRequest,
    connection,
)
from qlib.transport import Transport
from qlib.values import to_json
from tests.qlib.door import GOOD, send, the_value
from tests.qlib.hostile import (
    answer,
    hostile,
)


def test_headers_and_no_cookies(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    cookie = answer({"value": 7}, Set_Cookie="a=b")
    with hostile(cookie, GOOD) as server:
        door = Transport(server.url, "secret", 5.0)
        for _ in range(2):
            door.request("POST", ("value",), the_value, body=b"{}")
        door.close()
        for seen in server.seen:
            assert seen.headers["authorization"] == "Bearer secret"
            assert seen.headers["content-type"] == "application/json"
            assert seen.headers["accept-encoding"] == "identity"
            assert "cookie" not in seen.headers


def test_settings_come_from_arguments_then_the_environment(monkeypatch):
    monkeypatch.delenv("QUEUE_URL", raising=False)
    assert Transport(None, None, 1.0).url == "http://127.0.0.1:8008"
    with hostile(GOOD, GOOD) as server:
        monkeypatch.setenv("QUEUE_URL", server.url + "/")
        monkeypatch.setenv("QUEUE_TOKEN", "from-env")
        assert send(None) == 7
        assert server.seen[0].headers["authorization"] == "Bearer from-env"
        monkeypatch.setenv("QUEUE_URL", "http://127.0.0.1:1")
        assert send(server.url) == 7


def test_certificates_are_verified(monkeypatch, tmp_path):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    assert trusted() == (DEFAULT_CA_BUNDLE_PATH, None)
    own = tmp_path / "own.pem"
    own.touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(own))
    assert trusted() == (str(own), None)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert trusted() == (None, str(tmp_path))


def trusted():
    """Return the file and the directory whose certificates are trusted."""
    pool = connection.Session("https://127.0.0.1:1")._found().pool
    assert pool.cert_reqs == "CERT_REQUIRED"
    return pool.ca_certs, pool.ca_cert_dir


@pytest.mark.parametrize(
    "settings",
    [
        ("ftp://host", None, 1.0),
        ("host:8008", None, 1.0),
        ("http://", None, 1.0),
        ("http://[", None, 1.0),
        ("http://host:99999", None, 1.0),
        ("http://user:word@host", None, 1.0),
        ("http://user:word@host:99999", None, 1.0),
        ("http://host/?a=b", None, 1.0),
        ("http://host", "two\nlines", 1.0),
        ("http://host", "naïve", 1.0),
        ("http://host", None, 0.0),
        ("http://host", None, float("nan")),
    ],
)
def test_unusable_settings_are_refused(settings):
    with pytest.raises(InvalidRequest) as raised:
        Transport(*settings)
    assert "word" not in str(raised.value)
    assert "lines" not in str(raised.value)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a?b#c", "\r\nX: y", "\ud800", None, 7])
def test_names_that_would_make_another_route_are_refused(name):
    with hostile(GOOD) as server:
        door = Transport(server.url, None, 5.0)
        with pytest.raises(InvalidRequest):
            door.request("GET", ("topics", name), the_value)
        assert server.seen == []


def test_json_is_compact_and_keeps_the_text():
    assert to_json({"a": [1, None, "é\u2028"]}, "it") == '{"a":[1,null,"é\u2028"]}'.encode()
    circle: list[object] = []
    circle.append(circle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (
        float("nan"),
        float("inf"),
        "\ud800",
        {1, 2},
        object(),
        b"",
        circle,
        deep,
        10**5000,
    ):
        with pytest.raises(InvalidRequest, match=r"payloads\[3\] is not JSON"):
            to_json(value, "payloads[3]")
