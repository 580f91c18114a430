"""The hot routes: what matches one goes straight to the door, all else to Flask: the same answer, on a longer way."""

import re
from collections.abc import Awaitable, Callable

import server.http.routes  # noqa: F401  (registers the operations)
from server.http.door import Door
from server.http.operations import OPERATIONS
from server.http.reply import Reply
from server.http.request import Received

HOT = ("publish", "fetch", "ack")


class HotRoutes:
    """The application of the worker: a few routes in front of all others."""

    def __init__(self, door: Door, others: Callable[[Received], Awaitable[Reply]]) -> None:
        """`others` takes what is not hot, or unusual in any way."""
        self._door = door
        self._others = others
        self._routes = [
            (one.method, re.compile(re.sub("<(.*?)>", r"(?P<\1>[A-Za-z0-9._-]+)", one.rule)), one)
            for one in OPERATIONS
            if one.name in HOT
        ]

    async def __call__(self, request: Received) -> Reply:
        """Answer a request."""
        for method, rule, one in self._routes:
            if method == request.method and (found := rule.fullmatch(request.path)):
                return await self._door.answer(one, request, found.groupdict())
        return await self._others(request)
