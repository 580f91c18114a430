"""The server's description of itself: valid, complete, and kept by what it answers."""

import copy
import json
import re
from collections import Counter
from typing import Any

import jsonschema
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.openapi.checks import JsonSchemaError, UndefinedStatusCode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import server.http.routes  # noqa: F401  (registers the operations)
from server.engines.postgres.engine import PostgresEngine
from server.http import schemas, work
from server.http.errors import STATUS
from server.http.operations import OPERATIONS
from tests.server.answers import PROBLEMS, ok
from tests.server.applications import application
from tests.server.working import Crew
from tests.server_process import ServerProcess

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 12  # of each operation and each way


def takes_something(path: str) -> bool:
    """Whether requests to a path can differ at all."""
    return path not in ("/health", "/metrics", "/openapi.json")


MODES = [
    (one.method, path, mode)
    for one in OPERATIONS
    for path in [re.sub("<(.*?)>", r"{\1}", one.rule)]
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or takes_something(path)
]


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> dict[str, Any]:
    """The document as the server gives it out."""
    found: dict[str, Any] = ok(server.call("GET", "/openapi.json"))
    return found


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Return method and path of all operations of a document."""
    return {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    broken = copy.deepcopy(document)  # the control
    broken["paths"]["/topics"]["get"]["responses"] = []
    with pytest.raises(Exception, match="object"):
        schemathesis.openapi.from_dict(broken).validate()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document))
    assert len(references) > 50
    assert set(references) == set(document["components"]["schemas"])
    assert json.dumps(document).count('"$ref"') == len(references)


def test_the_document_and_the_routes_are_the_same(document: dict[str, Any], dsn: str) -> None:
    with application(PostgresEngine(dsn)) as app:
        rules = {
            (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
            for rule in app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD"}
        }
    assert operations(document) == rules
    assert len(rules) == len(OPERATIONS) == 26


def test_every_operation_says_what_it_takes(document: dict[str, Any]) -> None:
    names = Counter[str]()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            names[operation["operationId"]] += 1
            assert operation["summary"].endswith(".")
            inside = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert inside == set(re.findall(r"{(\w+)}", path))
            takes_body = (
                method in ("post", "patch") or path.endswith("/dead") and method == "delete"
            )
            assert ("requestBody" in operation) == takes_body
            assert operation["security"] == ([{}] if path == "/health" else [{}, {"token": []}])
            for status, response in operation["responses"].items():
                assert response["description"]
                kinds = set(response.get("content", ()))
                assert (kinds == {"application/problem+json"}) == (int(status) >= 400)
                assert (kinds == set()) == (status == "204")
    assert set(names.values()) == {1}


def test_a_client_can_be_made_from_it(document: dict[str, Any]) -> None:
    """What generators stumble over; `make openapi-test` lets some of them do it."""
    assert flaws(document) == []
    assert document["servers"][0]["url"] == "/"
    assert document["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert tags == {"dead", "leases", "messages", "service", "subscribers", "topics"}
    assert {tag for one in each_operation(document) for tag in one["tags"]} == tags
    content = document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert content == {"text/plain": {"schema": {"type": "string"}}}
    schemas = document["components"]["schemas"]
    assert schemas["NewSubscriber"]["properties"]["start"]["description"] == 'default: "latest"'
    assert schemas["Message"]["properties"]["headers"]["additionalProperties"] is True


def flaws(document: dict[str, Any]) -> list[str]:
    """Return what makes generators leave something out, or ask for what need not be there."""
    found = [f"default of {name}" for name, one in members(document).items() if "default" in one]
    for operation in each_operation(document):
        for response in operation["responses"].values():
            for kind, content in response.get("content", {}).items():
                if "*" in kind or not content.get("schema"):
                    found.append(f"{kind} in {operation['operationId']}")
    closed = [name for name, one in members(document).items() if one == {"type": "object"}]
    return found + [f"nothing in {name}" for name in closed]


def members(document: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{kind}.{name}": schema
        for kind, one in document["components"]["schemas"].items()
        for name, schema in one["properties"].items()
    }


def each_operation(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for methods in document["paths"].values() for one in methods.values()]


def test_what_generators_stumble_over_is_noticed(document: dict[str, Any]) -> None:
    changed = copy.deepcopy(document)  # the control
    schemas = changed["components"]["schemas"]
    schemas["Batch"]["properties"]["keys"]["default"] = None
    schemas["Message"]["properties"]["headers"] = {"type": "object"}
    changed["paths"]["/metrics"]["get"]["responses"]["200"]["content"] = {"*/*": {}}
    assert flaws(changed) == [
        "default of Batch.keys",
        "*/* in metrics",
        "nothing in Message.headers",
    ]


def test_every_code_is_documented(document: dict[str, Any]) -> None:
    documented = {
        (int(status), code)
        for methods in document["paths"].values()
        for operation in methods.values()
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for code in response["description"].split(", ")
    }
    # what no operation answers, since it has not come to one
    assert documented == {(s, c) for c, s in STATUS.items() if c != "method_not_allowed"}
    assert {code: status for code, (status, _) in PROBLEMS.items()}.items() <= STATUS.items()


def test_parameters_are_those_that_are_checked(document: dict[str, Any]) -> None:
    path = "/topics/{topic}/subscribers/{subscriber}/messages"
    parameters = {
        one["name"]: (one["required"], one["schema"])
        for one in document["paths"][path]["get"]["parameters"]
        if one["in"] == "query"
    }
    assert set(parameters) == set(schemas.FetchQuery.__struct_fields__)
    assert not any(required for required, _ in parameters.values())
    assert parameters["limit"][1]["minimum"] == 1 and parameters["limit"][1]["default"] == 100
    assert parameters["wait"][1]["maximum"] == 60


class Play:
    """Sends what is made from the document to a topic that exists, and to others."""

    def __init__(
        self, server: ServerProcess, document: dict[str, Any], topic: str, lease: str
    ) -> None:
        self.server = server
        self.topic = topic
        self.lease = lease
        self.schema = schemathesis.openapi.from_dict(document)
        self.statuses: Counter[tuple[str, int]] = Counter()

    def operation(self, method: str, path: str) -> Any:
        """Return the operation of the loaded document."""
        return self.schema[path][method]

    def send(self, case: Any, known: bool) -> None:
        """Send a case, to something known or as it was made; hold the answer against the document."""
        if known:
            names = {"topic": self.topic, "subscriber": "s", "lease": self.lease}
            case.path_parameters = {name: names[name] for name in case.path_parameters or ()}
        for part in ("query", "body"):
            given = getattr(case, part)
            if isinstance(given, dict) and "wait" in given:
                setattr(case, part, {**given, "wait": 0})
        answer = case.call(base_url=self.server.url, timeout=20)
        case.validate_response(answer, checks=CHECKS)
        self.statuses[case.operation.label, answer.status_code] += 1


@pytest.fixture
def play(server: ServerProcess, document: dict[str, Any], topic: str) -> Play:
    ok(server.call("POST", f"/topics/{topic}/messages", {"payloads": [1, 2, 3]}), 201)
    ok(server.call("POST", f"/topics/{topic}/subscribers", {"subscriber": "s", "start": 0}), 201)
    lease = {"limit": 3, "lease_seconds": 43_200}
    leased = ok(server.call("POST", f"/topics/{topic}/subscribers/s/leases", lease))
    return Play(server, document, topic, leased["lease"])


@pytest.mark.parametrize(("method", "path", "mode"), MODES)
def test_answers_are_as_described(play: Play, method: str, path: str, mode: GenerationMode) -> None:
    operation = play.operation(method, path)
    strategy = operation.as_strategy(generation_mode=mode)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, known=st.sampled_from([True, True, False]))
    def run(case: Any, known: bool) -> None:
        play.send(case, known and method != "DELETE")

    run()
    assert sum(play.statuses.values()) >= (EXAMPLES if takes_something(path) else 1)


def test_the_play_notices_an_undocumented_answer(play: Play, document: dict[str, Any]) -> None:
    """The control: with something taken out of the document, the same answers are wrong."""
    changed = copy.deepcopy(document)
    changed["components"]["schemas"]["Topic"]["properties"]["head"] = {"type": "string"}
    del changed["paths"]["/topics/{topic}/messages"]["get"]["responses"]["404"]
    other = Play(play.server, changed, play.topic, play.lease)
    for path, topic, failure in (
        ("/topics/{topic}", play.topic, JsonSchemaError),
        ("/topics/{topic}/messages", "nowhere", UndefinedStatusCode),
    ):
        other.topic = topic
        case = other.operation("GET", path).Case(path_parameters={"topic": topic})
        with pytest.raises(FailureGroup) as failed:
            other.send(case, True)
        assert [type(one) for one in failed.value.exceptions] == [failure]
        right = play.operation("GET", path).Case(path_parameters={"topic": topic})
        play.send(right, False)


def test_the_types_of_answers_are_those_that_are_given(server: ServerProcess, topic: str) -> None:
    """Answers are put together as text: here they are read back as the types that describe them."""
    kinds: dict[str, type[msgspec.Struct]] = {
        "/topics": schemas.Topics,
        f"/topics/{topic}": schemas.Topic,
        f"/topics/{topic}/messages": schemas.Browsed,
        f"/topics/{topic}/subscribers": schemas.Subscribers,
        f"/topics/{topic}/subscribers/s": schemas.Subscriber,
        f"/topics/{topic}/subscribers/s/messages": schemas.Fetched,
        f"/topics/{topic}/subscribers/s/leases": work.HeldLeases,
        f"/topics/{topic}/subscribers/s/dead": work.Dead,
        "/health": schemas.Health,
    }
    batch = {"payloads": [1], "keys": ["k"], "headers": [{"h": 1}]}
    ok(server.call("POST", f"/topics/{topic}/messages", batch), 201)
    ok(server.call("POST", f"/topics/{topic}/subscribers", {"subscriber": "s", "start": 0}), 201)
    crew = Crew(server, topic, "s")
    crew.configure(max_attempts=1)
    crew.publish(3)
    crew.nack(crew.lease(1))
    leased = crew.call("POST", "/leases", {"limit": 3})
    done = [
        (leased, work.Leased),
        (crew.of(leased.json(), "extend", {"lease_seconds": 60}), work.Extended),
        (crew.of(leased.json(), "nack", {"offsets": [2], "untried": True}), work.Nacked),
        (crew.of(leased.json(), "ack", {"offsets": [3]}), work.LeaseAcked),
        (crew.call("POST", "/leases", {"limit": 9}), work.Leased),
        (crew.call("POST", "/leases", {"limit": 9}), work.Leased),  # with nothing in it
        (crew.call("POST", "/dead/redrive", {"offsets": [9]}), work.Redriven),
        (crew.call("DELETE", "/dead", {"offsets": [9]}), work.Removed),
        (crew.call("PATCH", body={"ordered": False}), schemas.Subscriber),
    ]
    for answer, kind in done:
        assert isinstance(msgspec.json.decode(answer.content, type=kind), kind)
        assert ok(answer).keys() == set(kind.__struct_fields__)
    assert crew.leases() and crew.dead()
    for path, kind in kinds.items():
        content = server.call("GET", path).content
        decoded = msgspec.json.decode(content, type=kind)
        assert json.loads(content).keys() == set(kind.__struct_fields__)
        assert isinstance(decoded, kind)
