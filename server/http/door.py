"""The door: every request is checked here, handed to its operation, and answered, whoever routed it."""

import hmac
import re
import secrets
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from server import logs
from server.address import compared
from server.http.body import Gate, decode, read
from server.http.errors import Problem
from server.http.metrics import count
from server.http.operations import Context, Operation
from server.http.sentences import of_host, of_name, of_query, of_unknown, of_value

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_PORT = re.compile(r":[0-9]+$")
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_FAILED = "the server failed to carry this out; its log says more"
_ALWAYS = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]

Environ = dict[str, Any]


class Reply(NamedTuple):
    """What goes back to the caller."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Door:
    """Answers requests. What goes wrong is an answer, too: nothing is raised."""

    def __init__(
        self,
        context: Context,
        *,
        token: str | None = None,
        hosts: tuple[str, ...] = (),
        bodies: int = 1000,
    ) -> None:
        """Open it.

        `token`: every route but /health needs it. `hosts`: names by which the server may be called, beside this
        machine's own. `bodies`: how many request bodies may be on their way at once.
        """
        self._context = context
        self._token = token
        self._hosts = {*_LOCAL, *hosts}
        self._gate = Gate(bodies)

    def answer(self, one: Operation, environ: Environ, path: dict[str, str]) -> Reply:
        """Answer a request that was routed to an operation, with the parts of its path by name."""
        return self._reply(one, environ, lambda: self._carry_out(one, environ, path))

    def refuse(self, environ: Environ, error: Exception) -> Reply:
        """Answer a request that leads nowhere, or failed on its way here."""

        def refusal() -> Reply:
            raise error

        return self._reply(None, environ, refusal)

    def _reply(self, one: Operation | None, environ: Environ, act: Callable[[], Reply]) -> Reply:
        began = time.perf_counter()
        told: dict[str, Any] = {}
        try:
            _check_host(environ, self._hosts)
            reply = act()
        except Exception as error:
            problem = error if isinstance(error, Problem) else Problem("internal", _FAILED)
            told = {"request_id": secrets.token_hex(8), "code": problem.code}
            if problem is not error:
                told["error"] = error
            reply = _refusal(problem, told["request_id"])
        seconds = time.perf_counter() - began
        count(one.name if one else "none", reply.status, seconds)
        logs.told(environ, one.rule if one else "-", reply.status, seconds, **told)
        return reply

    def _carry_out(self, one: Operation, environ: Environ, path: dict[str, str]) -> Reply:
        if one.secured and self._token is not None:
            _check_token(environ, self._token)
        for part, name in path.items():
            if not _NAME.fullmatch(name) or name in (".", ".."):
                raise Problem("invalid_name", of_name(part, name))
        arguments: list[Any] = []
        if one.body is not None:
            _check_media_type(environ)
            arguments.append(decode(read(environ, self._gate), one.body))
        query = _query(environ, one.query)
        if query is not None:
            arguments.append(query)
        if one.headers is not None:
            arguments.append(_headers(environ, one.headers))
        answer = one.handler(self._context, *arguments, **path)
        status, text = answer.status or one.statuses[0], answer.text.encode()
        return _made(status, answer.media_type, text, *answer.headers)


def _refusal(problem: Problem, request_id: str) -> Reply:
    body = problem.body(request_id)
    return _made(problem.status, "application/problem+json", body, *problem.headers)


def _made(status: int, media_type: str, body: bytes, *further: tuple[str, str]) -> Reply:
    length = ("Content-Length", str(len(body)))
    return Reply(status, [("Content-Type", media_type), *further, *_ALWAYS, length], body)


def _query(environ: Environ, kind: type[msgspec.Struct] | None) -> msgspec.Struct | None:
    values: dict[str, str] = {}
    for name, text in parse_qsl(environ["QUERY_STRING"], keep_blank_values=True):
        if kind is None or name not in kind.__struct_fields__:
            raise Problem("invalid_request", of_unknown("parameter", name, kind))
        if name in values:
            raise Problem("invalid_request", f"{name} is given more than once")
        values[name] = text
    if kind is None:
        return None
    try:
        converted: msgspec.Struct = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem("invalid_request", of_query(error, values, kind)) from None
    for name, text in values.items():
        value = getattr(converted, name)
        if (
            not isinstance(value, float) and str(value) != text
        ):  # 1.0, 1e2 and 01 are no integers here
            raise Problem("invalid_request", of_value(kind, name, text))
    return converted


@cache
def _variables(kind: type[msgspec.Struct]) -> list[tuple[str, str]]:
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    return [(name, "HTTP_" + name.upper().replace("-", "_")) for name in names]


def _headers(environ: Environ, kind: type[msgspec.Struct]) -> msgspec.Struct:
    values = {name: environ[key] for name, key in _variables(kind) if key in environ}
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise Problem("invalid_request", of_query(error, values, kind)) from None


def _check_host(environ: Environ, allowed: set[str]) -> None:
    # a page in a browser may resolve its own name to 127.0.0.1; it cannot change the Host header
    host = _PORT.sub("", environ.get("HTTP_HOST", ""))
    if host not in allowed and compared(host) not in allowed:
        raise Problem("host_not_allowed", of_host(host))


def _check_token(environ: Environ, token: str) -> None:
    given = environ.get("HTTP_AUTHORIZATION", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise Problem("unauthorized", "send the token: Authorization: Bearer …")


def _check_media_type(environ: Environ) -> None:
    given = environ.get("CONTENT_TYPE", "").partition(";")[0].strip()
    if given.lower() != "application/json":
        raise Problem("unsupported_media_type", "send JSON, with Content-Type: application/json")
