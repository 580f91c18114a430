"""The hot routes: what matches one goes straight to the door, all else to Flask: the same answer, on a longer way."""

import re
from collections.abc import Awaitable, Callable

import server.http.routes  # noqa: F401  (registers the operations)
from server.http.door import Door
from server.http.operations import OPERATIONS, Operation
from server.http.reply import Reply
from server.http.request import Received

# All that asks the engine, and so may wait: Flask's few threads are for what does not.
HOT: tuple[str, ...] = tuple(one.name for one in OPERATIONS if one.name != "openapi")
_OFTEN = ("publish", "fetch", "ack", "lease", "ack_lease")


class HotRoutes:
    """The application of the worker: a few routes in front of all others."""

    def __init__(self, door: Door, others: Callable[[Received], Awaitable[Reply]]) -> None:
        """`others` takes what is not hot, or unusual in any way."""
        self._door = door
        self._others = others
        self._routes: dict[str, list[tuple[re.Pattern[str], Operation]]] = {}
        for one in sorted(OPERATIONS, key=lambda one: one.name not in _OFTEN):  # these first
            if one.name in HOT:
                rule = re.sub("<(.*?)>", r"(?P<\1>[A-Za-z0-9._-]+)", one.rule)
                self._routes.setdefault(one.method, []).append((re.compile(rule), one))
        self._routes["HEAD"] = self._routes.get("GET", [])  # it may wait like a GET

    async def __call__(self, request: Received) -> Reply:
        """Answer a request."""
        for rule, one in self._routes.get(request.method, ()):
            if found := rule.fullmatch(request.path):
                return await self._door.answer(one, request, found.groupdict())
        return await self._others(request)
