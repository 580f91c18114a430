"""The Flask application: it routes every request to its operation, or says that there is none."""

from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

from flask import Flask, Response
from flask import request as asked
from werkzeug.exceptions import HTTPException, MethodNotAllowed

import server.http.routes  # noqa: F401  (registers the operations)
from server.http.door import Door
from server.http.errors import Problem
from server.http.operations import OPERATIONS, Operation
from server.http.reply import Reply
from server.http.request import Request

RECEIVED = "queue.request"  # where the environ has the request as it came in, its body read already

Run = Callable[[Coroutine[Any, Any, Reply]], Reply]


def create_app(door: Door, run: Run) -> Flask:
    """Make the application; `door` answers what it routes, and `run` hands that to the one loop and waits for it."""
    app = Flask("queue", static_folder=None)
    app.url_map.merge_slashes = False

    def view(one: Operation, **path: str) -> Response:
        return _response(run(door.answer(one, _request(), path)))

    for one in OPERATIONS:
        app.add_url_rule(
            one.rule,
            one.name,
            partial(view, one),
            methods=[one.method],
            provide_automatic_options=False,
        )

    _register_failures(app, door, run)
    return app


def _register_failures(app: Flask, door: Door, run: Run) -> None:
    @app.errorhandler(HTTPException)
    def leads_nowhere(error: HTTPException) -> Response:
        return _response(run(door.refuse(_request(), _problem(error))))

    @app.errorhandler(CancelledError)
    def left(error: CancelledError) -> Response:
        return Response(status=503)  # for the hooks alone: the client has left

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        return _response(run(door.refuse(_request(), error)))


class Environ:
    """A request as WSGI tells of it."""

    given_up = False  # nobody tells when its client leaves

    def __init__(self, environ: dict[str, Any]) -> None:
        """See `Request`."""
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ["PATH_INFO"]
        self.query: str = environ["QUERY_STRING"]
        self._environ = environ

    def header(self, name: str) -> str | None:
        """See `Request`."""
        variable = name.upper().replace("-", "_")
        if variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            variable = "HTTP_" + variable
        value: str | None = self._environ.get(variable)
        return value

    async def body(self) -> bytes:
        """See `Request`."""
        length = self.header("content-length")
        if length is None:
            raise Problem("length_required", "send the body with a Content-Length")
        body: bytes = self._environ["wsgi.input"].read(int(length))
        return body


def _request() -> Request:
    received: Request | None = asked.environ.get(RECEIVED)
    return received or Environ(asked.environ)


def _problem(error: HTTPException) -> Problem:
    if isinstance(error, MethodNotAllowed):
        return Problem(
            "method_not_allowed",
            f"{asked.method} is not for this route",
            headers=[("Allow", ", ".join(sorted(error.valid_methods or ())))],
        )
    return Problem("not_found", "there is no such route")


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, reply.headers)
