"""The Flask application: every request is checked here, handed to its operation, and answered."""

import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

import server.routes  # noqa: F401  (registers the operations)
from server.body import Gate, decode, read, sentence
from server.errors import RETRY_AFTER, Problem
from server.metrics import REQUESTS, SECONDS
from server.operations import OPERATIONS, Context, Operation

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


def create_app(
    context: Context, *, token: str | None = None, hosts: tuple[str, ...] = (), bodies: int = 1000
) -> Flask:
    """Make the application.

    `token`: every route but /health needs it. `hosts`: names by which the server may be called, beside this machine's
    own. `bodies`: how many request bodies may be on their way at once.
    """
    app = Flask("queue", static_folder=None)
    app.url_map.merge_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    gate = Gate(bodies)
    allowed = {*_LOCAL, *hosts}

    @app.before_request
    def begin() -> None:
        g.request_id = secrets.token_hex(8)
        g.began = time.perf_counter()
        _check_host(allowed)

    for one in OPERATIONS:
        view = _view(one, context, gate, token)
        app.add_url_rule(
            one.rule, one.name, view, methods=[one.method], provide_automatic_options=False
        )
    app.register_error_handler(Problem, _answer_problem)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(Exception, _answer_exception)
    app.after_request(_finish)
    return app


def _view(
    one: Operation, context: Context, gate: Gate, token: str | None
) -> Callable[..., Response]:
    def view(**path: str) -> Response:
        if one.secured and token is not None:
            _check_token(token)
        for part, name in path.items():
            if not _NAME.fullmatch(name) or name in (".", ".."):
                raise Problem("invalid_name", f"{name[:60]!r} cannot be the name of a {part}")
        arguments: list[Any] = []
        if one.body is not None:
            if request.mimetype != "application/json":
                raise Problem(
                    "unsupported_media_type", "send JSON, with Content-Type: application/json"
                )
            arguments.append(decode(read(request.environ, gate), one.body))
        query = _query(one.query)
        if query is not None:
            arguments.append(query)
        answer = one.handler(context, *arguments, **path)
        return Response(
            answer.text, answer.status or one.statuses[0], content_type=answer.media_type
        )

    return view


def _query(kind: type[msgspec.Struct] | None) -> msgspec.Struct | None:
    values: dict[str, str] = {}
    for name, given in request.args.lists():
        if kind is None or name not in kind.__struct_fields__:
            raise Problem("invalid_request", f"there is no parameter {name[:60]!r} here")
        if len(given) > 1:
            raise Problem("invalid_request", f"{name} is given {len(given)} times")
        values[name] = given[0]
    if kind is None:
        return None
    try:
        converted: msgspec.Struct = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem("invalid_request", sentence(error)) from None
    for name, text in values.items():
        value = getattr(converted, name)
        if (
            not isinstance(value, float) and str(value) != text
        ):  # 1.0, 1e2 and 01 are no integers here
            raise Problem("invalid_request", f"Expected `int`, got {text[:60]!r} - at `{name}`")
    return converted


def _check_host(allowed: set[str]) -> None:
    # a page in a browser may resolve its own name to 127.0.0.1; it cannot change the Host header
    host = re.sub(r":[0-9]+$", "", request.environ.get("HTTP_HOST", ""))
    if host.lower() not in allowed:
        raise Problem("host_not_allowed", "this server does not answer under that name")


def _check_token(token: str) -> None:
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise Problem("unauthorized", "send the token: Authorization: Bearer …")


def _answer_problem(problem: Problem) -> Response:
    response = Response(
        problem.body(g.request_id), problem.status, content_type="application/problem+json"
    )
    if problem.code in RETRY_AFTER:
        response.headers["Retry-After"] = RETRY_AFTER[problem.code]
    if problem.code == "unauthorized":
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _answer_http_exception(error: HTTPException) -> Response:
    if isinstance(error, MethodNotAllowed):
        response = _answer_problem(
            Problem("method_not_allowed", f"{request.method} is not for this route")
        )
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return response
    return _answer_problem(Problem("not_found", "there is no such route"))


def _answer_exception(error: Exception) -> Response:
    log.error("request %s failed", g.request_id, exc_info=error)
    return _answer_problem(
        Problem("internal", "the server failed to carry this out; its log says more")
    )


def _finish(response: Response) -> Response:
    operation = request.endpoint or "none"
    REQUESTS.labels(operation, response.status_code).inc()
    SECONDS.labels(operation).observe(time.perf_counter() - g.began)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response
