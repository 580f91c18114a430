"""The server's description of itself, made from the same operations that answer."""

import re
from functools import cache
from typing import Any

import msgspec

from server import schemas
from server.errors import STATUS
from server.fields import Name
from server.operations import OPERATIONS, Operation

_REF = "#/components/schemas/{name}"
_ALWAYS = ("invalid_request", "host_not_allowed", "unavailable", "internal")


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    kinds = [kind for one in OPERATIONS for kind in (one.body, one.answer) if kind is not None]
    _, components = msgspec.json.schema_components([*kinds, schemas.Error], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        path = re.sub(r"<(\w+)>", r"{\1}", one.rule)
        paths.setdefault(path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Queue Lab",
            "version": "1",
            "description": "A multi-subscriber queue on Postgres.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "parameters": [*_path_parameters(one), *_query_parameters(one), *_headers(one)],
        "responses": _responses(one),
        "security": [{}, {"token": []}] if one.secured else [{}],
    }
    if one.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(one.body)}},
        }
    return described


def _path_parameters(one: Operation) -> list[dict[str, Any]]:
    name = msgspec.json.schema(Name)
    return [
        {"name": part, "in": "path", "required": True, "schema": name}
        for part in re.findall(r"<(\w+)>", one.rule)
    ]


def _query_parameters(one: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(schema)}
        for name, schema in _properties(one.query)
    ]


def _headers(one: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "schema": _without_null(schema)}
        for name, schema in _properties(one.headers)
    ]


def _properties(kind: type[msgspec.Struct] | None) -> list[tuple[str, Any]]:
    if kind is None:
        return []
    _, components = msgspec.json.schema_components([kind], ref_template=_REF)
    return list(components[kind.__name__]["properties"].items())


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    # a parameter that is not given is left out; there is no null in a query
    options = [one for one in schema.get("anyOf", [schema]) if one != {"type": "null"}]
    return {name: value for name, value in options[0].items() if value is not None}


def _responses(one: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in one.statuses:
        responses[str(status)] = {"description": one.summary}
        headers = {name: {"schema": schema} for name, schema in _properties(one.answer_headers)}
        if headers:
            responses[str(status)]["headers"] = headers
        if one.answer is not None:
            content = {"application/json": {"schema": _reference(one.answer)}}
            responses[str(status)]["content"] = content
        elif status != 204:
            responses[str(status)]["content"] = {"*/*": {}}
    for code in sorted(
        {*one.errors, *_ALWAYS, *_by_nature(one)}, key=lambda code: (STATUS[code], code)
    ):
        known = responses.setdefault(str(STATUS[code]), {"description": ""})
        known["description"] = ", ".join(filter(None, [known["description"], code]))
        known["content"] = {"application/problem+json": {"schema": _reference(schemas.Error)}}
    return responses


def _by_nature(one: Operation) -> set[str]:
    codes = {"unauthorized"} if one.secured else set()
    if "<" in one.rule:
        codes |= {"invalid_name", "not_found"}
    if one.method == "POST":
        codes |= {
            "invalid_json",
            "length_required",
            "body_too_large",
            "unsupported_media_type",
            "disk_full",
        }
    return codes


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
