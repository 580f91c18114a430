"""The door: every request is checked here, handed to its operation, and answered, whoever routed it."""

import asyncio
import hmac
import re
import secrets
import time
from functools import cache, lru_cache, partial
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from server import logs
from server.address import compared
from server.http.decoding import decode
from server.http.errors import Problem, problem
from server.http.metrics import count
from server.http.operations import Context, Operation
from server.http.reply import Reply, made, refusal
from server.http.request import Request
from server.http.sentences import of_host, of_name, of_query, of_unknown, of_value

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_PORT = re.compile(r":[0-9]+$")
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_HOSTS = 100  # as they were sent, that are remembered
_LARGE = 256 * 1024  # bytes of a body, above which the loop does not wait for it to be taken apart


class Door:
    """Answers requests. What goes wrong is an answer, too: nothing is raised, but that the client has left."""

    def __init__(
        self, context: Context, *, token: str | None = None, hosts: tuple[str, ...] = ()
    ) -> None:
        """Open it.

        `token`: every route but /health needs it. `hosts`: names by which the server may be called, beside this
        machine's own.
        """
        self._context = context
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._is_ours = lru_cache(_HOSTS)(partial(_is_one_of, frozenset((*_LOCAL, *hosts))))

    async def answer(self, one: Operation, request: Request, path: dict[str, str]) -> Reply:
        """Answer a request that was routed to an operation, with the parts of its path by name."""
        began = time.perf_counter()
        try:
            self._check_host(request)
            reply = await self._carry_out(one, request, path)
        except Exception as error:
            return _refusal(one, request.method, error, began)
        except asyncio.CancelledError:
            _tell(one, request.method, None, began)
            raise
        _tell(one, request.method, reply.status, began)
        return reply

    def trusts(self, request: Request) -> bool:
        """Whether a request names this server, and has the token: others are not worth waiting for."""
        try:
            self._check_host(request)
            self._check_token(request)
        except Problem:
            return False
        return True

    async def refuse(self, request: Request, error: Exception) -> Reply:
        """Answer a request that leads nowhere, or failed on its way here."""
        began = time.perf_counter()
        try:
            self._check_host(request)
        except Problem as first:
            error = first
        return _refusal(None, request.method, error, began)

    async def _carry_out(self, one: Operation, request: Request, path: dict[str, str]) -> Reply:
        if one.secured:
            self._check_token(request)
        for part, name in path.items():
            if not _NAME.fullmatch(name) or name in (".", ".."):
                raise Problem("invalid_name", of_name(part, name))
        arguments: list[Any] = []
        if one.body is not None:
            _check_media_type(request)
            arguments.append(await _body(request, one))
        if one.query is not None or request.query:
            arguments += _query(request.query, one.query)
        if one.headers is not None:
            arguments.append(_headers(request, one.headers))
        if one.patient:
            request.given_up = True
        answer = await one.handler(self._context, *arguments, **path)
        status = answer.status or one.statuses[0]
        return made(status, answer.media_type, answer.text.encode(), *answer.headers)

    def _check_host(self, request: Request) -> None:
        # a page in a browser may resolve its own name to 127.0.0.1; it cannot change the Host header
        host = request.header("host") or ""
        if not self._is_ours(host):
            raise Problem("host_not_allowed", of_host(_PORT.sub("", host)))

    def _check_token(self, request: Request) -> None:
        if self._authorization is None:
            return
        given = request.header("authorization") or ""
        if not hmac.compare_digest(given.encode(), self._authorization):
            raise Problem("unauthorized", "send the token: Authorization: Bearer …")


def refused(error: Exception, method: str = "-") -> Reply:
    """Answer what went wrong before there was a request, or beyond any operation."""
    return _refusal(None, method, error, time.perf_counter())


def _refusal(one: Operation | None, method: str, error: Exception, began: float) -> Reply:
    told, request_id = problem(error), secrets.token_hex(8)
    ours = error if told.code == "internal" else None
    _tell(one, method, told.status, began, request_id=request_id, code=told.code, error=ours)
    return refusal(told, request_id)


def _tell(
    one: Operation | None, method: str, status: int | None, began: float, **more: Any
) -> None:
    seconds = time.perf_counter() - began
    count(one.name if one else "none", status, seconds)
    logs.told(method, one.rule if one else "-", status, seconds, **more)


def _is_one_of(allowed: frozenset[str], host: str) -> bool:
    host = _PORT.sub("", host)
    return host in allowed or compared(host) in allowed


def _check_media_type(request: Request) -> None:
    given = request.header("content-type") or ""
    if given == "application/json":
        return
    if given.partition(";")[0].strip().lower() != "application/json":
        raise Problem("unsupported_media_type", "send JSON, with Content-Type: application/json")


async def _body(request: Request, one: Operation) -> Any:
    body = await request.body()
    if len(body) > _LARGE:
        return await asyncio.to_thread(_taken, body, one)
    return _taken(body, one)


def _taken(body: bytes, one: Operation) -> Any:
    assert one.body is not None
    decoded = decode(body, one.body)
    return one.into(decoded) if one.into else decoded


def _query(query: str, kind: type[msgspec.Struct] | None) -> list[msgspec.Struct]:
    values: dict[str, str] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if kind is None or name not in kind.__struct_fields__:
            raise Problem("invalid_request", of_unknown("parameter", name, kind))
        if name in values:
            raise Problem("invalid_request", f"{name} is given more than once")
        values[name] = text
    if kind is None:
        return []
    try:
        converted: msgspec.Struct = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem("invalid_request", of_query(error, values, kind)) from None
    for name, text in values.items():
        value = getattr(converted, name)
        # 1.0, 1e2 and 01 are no integers here
        if not isinstance(value, float) and str(value) != text:
            raise Problem("invalid_request", of_value(kind, name, text))
    return [converted]


@cache
def _sent_as(kind: type[msgspec.Struct]) -> list[tuple[str, str]]:
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    return [(name, name.lower()) for name in names]


def _headers(request: Request, kind: type[msgspec.Struct]) -> msgspec.Struct:
    sent = ((name, request.header(lower)) for name, lower in _sent_as(kind))
    values = {name: value for name, value in sent if value is not None}
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise Problem("invalid_request", of_query(error, values, kind)) from None
