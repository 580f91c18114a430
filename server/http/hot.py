"""The hot routes: what matches one goes straight to the door, all else to Flask: the same answer, on a longer way."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

import server.http.routes  # noqa: F401  (registers the operations)
from server.http.door import Door
from server.http.operations import OPERATIONS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOT = ("publish", "fetch", "ack")


class HotRoutes:
    """A WSGI application in front of another one."""

    def __init__(self, door: Door, others: "WSGIApplication") -> None:
        """`others` takes what is not hot, or unusual in any way."""
        self._door = door
        self._others = others
        self._routes = [
            (one, re.compile(re.sub("<(.*?)>", r"(?P<\1>[A-Za-z0-9._-]+)", one.rule)))
            for one in OPERATIONS
            if one.name in HOT
        ]

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        for one, rule in self._routes:
            if one.method == environ["REQUEST_METHOD"] and (
                found := rule.fullmatch(environ["PATH_INFO"])
            ):
                reply = self._door.answer(one, environ, found.groupdict())
                status = f"{reply.status} {HTTPStatus(reply.status).phrase}"
                start_response(status, reply.headers)
                return [reply.body]
        return self._others(environ, start_response)
