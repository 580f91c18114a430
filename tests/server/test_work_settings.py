"""The settings of a subscriber's workers over HTTP: every object of it carries them."""

from typing import Any

import pytest

from tests.server.answers import SETTINGS, ok, refused
from tests.server.working import Crew, offsets
from tests.server_process import ServerProcess

OTHERS = {"max_attempts": 3, "backoff_seconds": 0.5, "backoff_cap_seconds": 60, "ordered": True}
WRONG: list[tuple[str, list[Any]]] = [
    ("max_attempts", [0, -1, 10_001, 1.0, True, "5", []]),
    ("backoff_seconds", [-0.001, 604_800.1, True, "1", {}]),
    ("backoff_cap_seconds", [-1, 604_801, False, "1", []]),
    ("ordered", [0, 1, "true", "", []]),
]


def settings(subscriber: Any) -> dict[str, Any]:
    """The settings of an object of a subscriber."""
    return {name: subscriber[name] for name in SETTINGS}


def test_every_object_of_a_subscriber_carries_them(server: ServerProcess, topic: str) -> None:
    crew, usual = Crew(server, topic), Crew(server, topic, "usual")
    made = crew.subscribe(**OTHERS)
    assert settings(made) == OTHERS
    assert settings(usual.subscribe()) == SETTINGS
    path = f"/topics/{topic}/subscribers"
    again = ok(server.call("POST", path, {"subscriber": "kitchen", "max_attempts": 9}))
    assert again == ok(crew.call("GET")) == crew.configure() == made  # it was there already
    listed = ok(server.call("GET", path))["subscribers"]
    assert [settings(one) for one in listed] == [OTHERS, SETTINGS]
    for dry_run in (True, False):
        moved = ok(crew.call("POST", "/seek", {"offset": 0, "dry_run": dry_run}))
        assert settings(moved) == OTHERS


def test_what_is_not_given_stays_as_it_is(crew: Crew) -> None:
    before = ok(crew.call("GET"))
    expected = dict(SETTINGS)
    for name, value in OTHERS.items():
        expected[name] = value
        after = crew.configure(**{name: value})
        assert after == before | expected == ok(crew.call("GET"))
        assert crew.configure(**dict.fromkeys(OTHERS)) == after  # null says nothing
    assert ok(crew.server.call("GET", f"/topics/{crew.topic}"))["subscribers"] == 1


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG for v in values])
def test_a_setting_out_of_range_is_refused(crew: Crew, name: str, value: Any) -> None:
    before = ok(crew.call("GET"))
    given = OTHERS | {name: value}
    assert name in refused(crew.call("PATCH", body=given), "invalid_request")["detail"]
    path = f"/topics/{crew.topic}/subscribers"
    refused(crew.server.call("POST", path, {"subscriber": "new", **given}), "invalid_request")
    listed = ok(crew.server.call("GET", path))["subscribers"]
    assert listed == [before]


def test_what_is_no_setting_is_refused(crew: Crew) -> None:
    for body in ({"attempts": 1}, {"position": 0}, {"subscriber": "x"}, [], "ordered"):
        refused(crew.call("PATCH", body=body), "invalid_request")
    assert settings(ok(crew.call("GET"))) == SETTINGS


@pytest.mark.parametrize("pending", ["leased", "delayed"])
def test_31_the_order_changes_only_while_nothing_is_out(crew: Crew, pending: str) -> None:
    leased = crew.lease(2)
    if pending == "delayed":
        crew.nack(leased, delay_seconds=3600)
    said = refused(crew.call("PATCH", body={"ordered": True, "max_attempts": 9}), "leases_out")
    assert "leased, delayed or parked" in said["detail"]
    assert settings(ok(crew.call("GET"))) == SETTINGS  # all or nothing
    assert crew.configure(ordered=False, max_attempts=9)["max_attempts"] == 9  # it is as it was
    ok(crew.call("POST", "/seek", {"offset": 0}))  # now nothing is out any more
    assert crew.configure(ordered=True)["ordered"] is True
    assert offsets(crew.lease(10)) == [*range(1, 11)]


def test_a_new_life_has_none_of_them(crew: Crew) -> None:
    crew.configure(**OTHERS)
    ok(crew.call("DELETE"), 204)
    assert settings(crew.subscribe()) == SETTINGS
