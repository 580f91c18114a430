"""The server's description of itself, made from the same operations that answer."""

import re
import sys
from functools import cache
from typing import Any

import msgspec

from server.http import schemas
from server.http.errors import STATUS
from server.http.fields import Name
from server.http.operations import OPERATIONS, Operation

_REF = "#/components/schemas/{name}"
_ALWAYS = (
    "bad_request",
    "head_too_large",
    "too_slow",
    "invalid_request",
    "host_not_allowed",
    "unavailable",
    "internal",
)


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    kinds = [kind for one in OPERATIONS for kind in (one.body, one.answer) if _is_named(kind)]
    _, components = msgspec.json.schema_components([*kinds, schemas.Error], ref_template=_REF)
    for one in OPERATIONS:
        if one.body is not None:
            _tell_defaults(components[one.body.__name__]["properties"])
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
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "the server that gave this document out"}],
        "tags": [{"name": name, "description": told} for name, told in sorted(_tags().items())],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _tags() -> dict[str, str]:
    """Return what the modules of handlers say of themselves."""
    return {one.tag: sys.modules[one.handler.__module__].__doc__ or "" for one in OPERATIONS}


def _tell_defaults(properties: dict[str, Any]) -> None:
    # some generators take a member with a default for one that is always there, also in what is sent
    for schema in properties.values():
        default = schema.pop("default", None)
        if default is not None:
            told = (schema.get("description"), f"default: {msgspec.json.encode(default).decode()}")
            schema["description"] = "; ".join(filter(None, told))


def _operation(one: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "tags": [one.tag],
        "parameters": [*_path_parameters(one), *_query_parameters(one), *_headers(one)],
        "responses": _responses(one),
        "security": [{}, {"token": []}] if one.secured else [{}],
    }
    if one.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(one.body)}},
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
            media_type = "text/plain" if one.answer is str else "application/json"
            responses[str(status)]["content"] = {media_type: {"schema": _schema(one.answer)}}
    for code in sorted(
        {*one.errors, *_ALWAYS, *_by_nature(one)}, key=lambda code: (STATUS[code], code)
    ):
        known = responses.setdefault(str(STATUS[code]), {"description": ""})
        known["description"] = ", ".join(filter(None, [known["description"], code]))
        known["content"] = {"application/problem+json": {"schema": _schema(schemas.Error)}}
    return responses


def _by_nature(one: Operation) -> set[str]:
    codes = {"unauthorized"} if one.secured else set()
    if "<" in one.rule:
        codes |= {"invalid_name", "not_found"}
    if one.body is not None:
        codes |= {
            "invalid_json",
            "length_required",
            "body_too_large",
            "unsupported_media_type",
            "disk_full",
        }
    return codes


def _is_named(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _schema(kind: Any) -> dict[str, Any]:
    if _is_named(kind):
        return {"$ref": _REF.format(name=kind.__name__)}
    return msgspec.json.schema(kind)
