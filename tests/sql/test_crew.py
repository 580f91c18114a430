"""The settings of a subscriber."""

import json
from typing import Any

import pytest

from tests.sql.session import Session, plant, refused
from tests.sql.working import Crew

SETTINGS = "select max_attempts, backoff_seconds, backoff_cap_seconds, ordered from queue.settings('orders', %s)"
USUAL = (5, 1.0, 3600.0, False)


def test_settings_are_as_usual_until_they_are_set(crew: Crew) -> None:
    assert crew.session.row(SETTINGS, "kitchen") == USUAL
    assert crew.configure(max_attempts=2) == (2, *USUAL[1:])
    assert crew.configure(backoff_seconds=0.5, backoff_cap_seconds=60, ordered=True) == (
        2,
        0.5,
        60.0,
        True,
    )
    assert crew.configure(ordered=None) == (2, 0.5, 60.0, True)
    assert crew.rows()["crew"] == 1


def test_nothing_set_changes_nothing(crew: Crew) -> None:
    assert crew.call("configure") == USUAL


@pytest.mark.parametrize("setting", [
    {"max_attempts": 0}, {"max_attempts": 10_001}, {"max_attempts": -1}, {"backoff_seconds": -1},
    {"backoff_seconds": "NaN"},
    {"backoff_seconds": 604801}, {"backoff_cap_seconds": -0.1}, {"backoff_cap_seconds": "Infinity"},
])  # fmt: skip
def test_settings_out_of_range_are_refused(crew: Crew, setting: dict[str, Any]) -> None:
    ((name, value),) = setting.items()
    with refused("QL009", name):
        crew.configure(**setting)
    with refused("QL009", name):
        crew.session.rows(f"select queue.subscribe('orders', 'new', p_{name} => %s)", value)
    assert crew.rows()["crew"] == 0
    assert crew.session.value("select count(*) from queue.subscriber") == 1


def test_subscribe_takes_them_for_a_new_one(orders: Session) -> None:
    subscribe = (
        "select created, max_attempts, backoff_seconds, backoff_cap_seconds, ordered "
        "from queue.subscribe('orders', %s, p_max_attempts => %s, p_ordered => true)"
    )
    assert orders.row(subscribe, "kitchen", 3) == (True, 3, 1.0, 3600.0, True)
    assert orders.row(SETTINGS, "kitchen") == (3, 1.0, 3600.0, True)
    assert orders.row(subscribe, "kitchen", 9) == (False, 3, 1.0, 3600.0, True)
    assert orders.row(SETTINGS, "kitchen") == (
        3,
        1.0,
        3600.0,
        True,
    )  # it was there, and is as it was
    orders.run("select queue.subscribe('orders', 'billing')")
    assert orders.row(SETTINGS, "billing") == USUAL


def test_a_new_life_has_none_of_them(crew: Crew) -> None:
    crew.configure(max_attempts=2)
    crew.session.run(
        "select queue.unsubscribe('orders', 'kitchen')",
        "select queue.subscribe('orders', 'kitchen')",
    )
    assert crew.session.row(SETTINGS, "kitchen") == USUAL


def test_unknown_subscribers(crew: Crew) -> None:
    for topic, code in (("orders", "QL002"), ("nowhere", "QL001")):
        for function in ("settings", "configure"):
            with refused(code):
                crew.session.rows(f"select queue.{function}(%s, 'nobody')", topic)


def test_what_workers_are_at(crew: Crew) -> None:
    crew.session.run("select queue.subscribe('orders', 'idle')")
    seen = ("select subscriber, leased, delayed, dead, redeliveries, oldest_lease_seconds is not null "
            "from queue.workloads()")  # fmt: skip
    assert crew.session.rows(seen) == []
    crew.configure(max_attempts=2)
    lease = crew.lease(4)
    crew.nack(lease, 1, delay=3600)
    crew.nack(lease, 2, delay=0)
    assert crew.session.rows(seen) == [("kitchen", 2, 1, 0, 0, True)]
    again = crew.lease(1)
    crew.nack(again)
    assert crew.session.rows(seen) == [("kitchen", 2, 1, 1, 1, True)]
    crew.ack(lease)
    assert crew.session.rows(seen) == [("kitchen", 0, 1, 1, 1, False)]
    crew.session.run("select queue.seek('orders', 'kitchen', 0)")
    assert crew.session.rows(seen) == [("kitchen", 0, 0, 1, 1, False)]


def test_acts_tell_what_was_done_last(crew: Crew) -> None:
    """Whatever may give somebody something to do makes another one."""
    session = crew.session
    session.run("select queue.subscribe('orders', 'billing')")

    def acts() -> dict[str, tuple[int, int]]:
        rows = session.rows(
            "select topic, subscriber, epoch, act from queue.acts(%s, %s)",
            ["orders", "orders", "orders", "missing"],
            ["kitchen", "billing", "nobody", "kitchen"],
        )
        assert {topic for topic, *_ in rows} <= {"orders"}
        return {subscriber: (epoch, act) for _, subscriber, epoch, act in rows}

    first = acts()
    assert set(first) == {"kitchen", "billing"} and {act for _, act in first.values()} == {0}
    seen = [first["kitchen"]]
    crew.configure(ordered=True)
    lease = crew.lease(3)
    seen.append(acts()["kitchen"])
    crew.ack(lease, lease.offsets[0])  # a key may be free now
    seen.append(acts()["kitchen"])
    crew.nack(lease, untried=True)
    seen.append(acts()["kitchen"])
    session.run("select queue.seek('orders', 'kitchen', 0)")
    seen.append(acts()["kitchen"])
    session.run("select queue.reset('orders', 0)")
    seen.append(acts()["kitchen"])
    assert seen == sorted(set(seen)) and len(seen) == 6
    assert acts()["billing"] != first["billing"]  # by the reset alone
    session.run("select queue.unsubscribe('orders', 'kitchen')")
    assert set(acts()) == {"billing"}
    assert session.rows("select * from queue.acts('{}', '{}')") == []
    assert session.rows("select * from queue.acts(null, null)") == []


def test_a_list_of_leases_has_its_bound(crew: Crew) -> None:
    """As text: of leases of 10,000 messages a page has not ten thousand."""
    leases = [crew.lease(limit) for limit in (3, 2, 1)]
    plant(crew.session, "queue.leases_json", ("before < 400000", "before < 5"))
    pages, after = [], None
    while page := crew.call("leases_json", after)[0]:
        pages.append([int(one["lease"]) for one in json.loads(f"[{page}]")])
        after = pages[-1][-1]
    assert pages == [[leases[0].act, leases[1].act], [leases[2].act]]
