"""The Flask application: it routes every request to its operation, or says that there is none."""

from functools import partial

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

import server.http.routes  # noqa: F401  (registers the operations)
from server.http.door import Door, Reply
from server.http.errors import Problem
from server.http.operations import OPERATIONS, Operation


def create_app(door: Door) -> Flask:
    """Make the application; `door` answers what it routes."""
    app = Flask("queue", static_folder=None)
    app.url_map.merge_slashes = False

    def view(one: Operation, **path: str) -> Response:
        return _response(door.answer(one, request.environ, path))

    for one in OPERATIONS:
        app.add_url_rule(
            one.rule,
            one.name,
            partial(view, one),
            methods=[one.method],
            provide_automatic_options=False,
        )

    @app.errorhandler(HTTPException)
    def leads_nowhere(error: HTTPException) -> Response:
        return _response(door.refuse(request.environ, _problem(error)))

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        return _response(door.refuse(request.environ, error))

    return app


def _problem(error: HTTPException) -> Problem:
    if isinstance(error, MethodNotAllowed):
        return Problem(
            "method_not_allowed",
            f"{request.method} is not for this route",
            headers=[("Allow", ", ".join(sorted(error.valid_methods or ())))],
        )
    return Problem("not_found", "there is no such route")


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, reply.headers)
