"""What /metrics says, held against what was done."""

import threading
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg2.extensions import connection

from tests.server.answers import ok
from tests.server.working import Crew
from tests.server_process import ServerProcess
from tests.waiting import until

Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(server: ServerProcess) -> dict[Sample, float]:
    """Return all samples: name and labels -> value."""
    text = server.call("GET", "/metrics").text
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def key(name: str, **labels: str) -> Sample:
    """Return the key of a sample."""
    return name, frozenset(labels.items())


@pytest.fixture(params=["server", "tests.flask_alone"])
def fresh(
    request: pytest.FixtureRequest, start_server: Callable[..., ServerProcess]
) -> ServerProcess:
    """A server that nobody else calls, with hot routes or without."""
    return start_server(program=request.param)


def test_requests_and_messages_are_counted(fresh: ServerProcess) -> None:
    ok(fresh.call("POST", "/topics", {"topic": "t"}), 201)
    batch = {"payloads": [1, 2, 3], "producer": "p", "sequence": 1}
    ok(fresh.call("POST", "/topics/t/messages", batch), 201)
    ok(fresh.call("POST", "/topics/t/messages", batch), 201)  # a duplicate publishes nothing
    assert fresh.call("POST", "/topics/nowhere/messages", {"payloads": [1]}).status_code == 404
    assert fresh.call("GET", "/nowhere").status_code == 404
    found = samples(fresh)
    requests = "queue_requests_total"
    assert found[key(requests, operation="publish", status="201")] == 2
    assert found[key(requests, operation="publish", status="404")] == 1
    assert found[key(requests, operation="none", status="404")] == 1
    assert found[key("queue_request_seconds_count", operation="publish")] == 3
    assert found[key("queue_published_messages_total")] == 3
    assert found[key("queue_engine_up")] == 1


def test_lags_are_there_and_go_with_their_subscriber(fresh: ServerProcess) -> None:
    ok(fresh.call("POST", "/topics", {"topic": "t"}), 201)
    for name in ("behind", "done"):
        ok(fresh.call("POST", "/topics/t/subscribers", {"subscriber": name}), 201)
    ok(fresh.call("POST", "/topics/t/messages", {"payloads": [1, 2]}), 201)
    ok(fresh.call("POST", "/topics/t/subscribers/done/seek", {"offset": 2}))
    found = samples(fresh)
    for name, messages in (("behind", 2), ("done", 0)):
        assert found[key("queue_lag_messages", topic="t", subscriber=name)] == messages
        seconds = found[key("queue_lag_seconds", topic="t", subscriber=name)]
        assert (seconds > 0) == (messages > 0)
    ok(fresh.call("DELETE", "/topics/t/subscribers/behind"), 204)
    assert key("queue_lag_messages", topic="t", subscriber="behind") not in samples(fresh)


def test_lags_that_are_left_out_are_counted(
    fresh: ServerProcess, connect: Callable[[], connection]
) -> None:
    ok(fresh.call("POST", "/topics", {"topic": "t"}), 201)
    for name in ("a", "b", "c"):
        ok(fresh.call("POST", "/topics/t/subscribers", {"subscriber": name}), 201)
    left_out = key("queue_lag_subscribers_left_out")
    found = samples(fresh)
    assert (found[left_out], sum("lag_messages" in name for name, _ in found)) == (0, 3)
    with connect() as session, session.cursor() as cursor:  # 2 at the most, and not 10,000
        cursor.execute("select pg_get_functiondef('queue.lags'::regproc)")
        (lags,) = cursor.fetchone() or ("",)
        cursor.execute(lags.replace("DEFAULT 10000", "DEFAULT 2"))
    found = samples(fresh)
    assert (found[left_out], sum("lag_messages" in name for name, _ in found)) == (1, 2)


WORK = ("leased_messages", "delayed_messages", "dead_messages", "redeliveries_total")


def test_what_workers_are_at_is_told(fresh: ServerProcess) -> None:
    ok(fresh.call("POST", "/topics", {"topic": "t"}), 201)
    crew, idle = Crew(fresh, "t"), Crew(fresh, "t", "idle")
    crew.publish(5)
    crew.subscribe(max_attempts=2)
    idle.subscribe()

    def told() -> list[float]:
        found = samples(fresh)
        assert not [
            labels for name, labels in found if "dead" in name and ("subscriber", "idle") in labels
        ]
        return [found[key(f"queue_{name}", topic="t", subscriber="kitchen")] for name in WORK]

    def oldest() -> float:
        return samples(fresh)[key("queue_oldest_lease_seconds", topic="t", subscriber="kitchen")]

    assert not any("leased" in name for name, _ in samples(fresh))
    leased = crew.lease(4)
    assert told() == [4, 0, 0, 0]
    until(lambda: oldest() > 0)
    crew.nack(leased, 1, delay_seconds=3600)
    crew.nack(leased, 2)
    again = crew.lease(1)
    assert told() == [3, 1, 0, 1]
    crew.nack(again)
    assert told() == [2, 1, 1, 1]
    crew.ack(leased)
    assert told() == [0, 1, 1, 1]
    assert oldest() == 0
    ok(crew.call("DELETE"), 204)
    assert not any("redeliveries" in name for name, _ in samples(fresh))


def test_lags_are_told_though_the_work_is_not(
    fresh: ServerProcess, connect: Callable[[], connection]
) -> None:
    """To count much work may take too long; who only fetches is seen nevertheless."""
    ok(fresh.call("POST", "/topics", {"topic": "t"}), 201)
    crew = Crew(fresh, "t")
    crew.publish(3)
    crew.subscribe()
    crew.lease(2)
    lag = key("queue_lag_messages", topic="t", subscriber="kitchen")
    leased = key("queue_leased_messages", topic="t", subscriber="kitchen")
    found = samples(fresh)
    assert (found[lag], found[leased]) == (3, 2)
    with connect() as session, session.cursor() as cursor:
        cursor.execute("select pg_get_functiondef('queue.workloads'::regproc)")
        (source,) = cursor.fetchone() or ("",)
        too_slow = "begin raise exception using errcode = '57014';"
        assert "begin" in source
        cursor.execute(source.replace("begin", too_slow, 1))
    found = samples(fresh)
    assert (found[lag], leased in found, found[key("queue_engine_up")]) == (3, False, 1)


def test_waiting_polls_are_counted(fresh: ServerProcess) -> None:
    ok(fresh.call("POST", "/topics", {"topic": "t"}), 201)
    ok(fresh.call("POST", "/topics/t/subscribers", {"subscriber": "s"}), 201)
    waiting = key("queue_waiting_polls")
    assert samples(fresh)[waiting] == 0
    path = "/topics/t/subscribers/s/messages?wait=30"
    poll = threading.Thread(target=fresh.call, args=("GET", path))
    poll.start()
    until(lambda: samples(fresh)[waiting] == 1)
    ok(fresh.call("POST", "/topics/t/messages", {"payloads": [1]}), 201)
    poll.join(30)
    until(lambda: samples(fresh)[waiting] == 0)


def test_labels_are_bounded(fresh: ServerProcess) -> None:
    """Whatever is asked for, the series do not grow with it."""
    for n in range(20):
        fresh.call("GET", f"/topics/{n}")
        fresh.call("GET", f"/{n}")
        fresh.call("PUT", f"/topics/{n}")
    samples(fresh)  # which is a request, too
    before = len(samples(fresh))
    for n in range(20, 60):
        fresh.call("GET", f"/topics/{n}")
        fresh.call("GET", f"/{n}")
        fresh.call("PUT", f"/topics/{n}")
    assert len(samples(fresh)) == before
