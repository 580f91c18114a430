"""What an operation is: a route with its types, from which requests are checked and `/openapi.json` is made."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import msgspec

from server.engines import Engine
from server.queue.fusion import Fusion
from server.queue.leases import Leases
from server.queue.readers import Readers
from server.queue.wakeups import Wakeups

OPERATIONS: list["Operation"] = []

Handler = TypeVar("Handler", bound=Callable[..., Coroutine[Any, Any, "Answer"]])


class Answer(NamedTuple):
    """JSON text to answer with, and the status when it is not the operation's usual one."""

    text: str = ""
    status: int | None = None
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Context:
    """What a handler works with."""

    engine: Engine
    wakeups: Wakeups
    fusion: Fusion
    leases: Leases
    readers: Readers = field(default_factory=Readers)


@dataclass(frozen=True)
class Operation:
    """A method on a route: what it takes, what it answers (text when that is `str`), what can go wrong."""

    method: str
    rule: str
    handler: Callable[..., Coroutine[Any, Any, Answer]]
    body: type[msgspec.Struct] | None
    into: Callable[[Any], Any] | None
    query: type[msgspec.Struct] | None
    headers: type[msgspec.Struct] | None
    answer: Any
    answer_headers: type[msgspec.Struct] | None
    statuses: tuple[int, ...]
    errors: tuple[str, ...]
    secured: bool
    patient: bool

    @property
    def summary(self) -> str:
        """The first sentence of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().split("\n")[0]

    @property
    def tag(self) -> str:
        """The name of the handler's module."""
        return self.handler.__module__.rpartition(".")[2]

    @property
    def name(self) -> str:
        """The handler's name."""
        return self.handler.__name__


def operation(
    method: str,
    rule: str,
    *,
    body: type[msgspec.Struct] | None = None,
    into: Callable[[Any], Any] | None = None,
    query: type[msgspec.Struct] | None = None,
    headers: type[msgspec.Struct] | None = None,
    answer: Any = None,
    answer_headers: type[msgspec.Struct] | None = None,
    statuses: tuple[int, ...] = (200,),
    errors: tuple[str, ...] = (),
    secured: bool = True,
    patient: bool = False,
) -> Callable[[Handler], Handler]:
    """Register a handler, a coroutine.

    It is called with the context, then with the body, the query and the headers if it has types for them, then with the
    parts of the path by name. `into` makes of the body what the handler is given in its place, in a thread if the body
    is large. The first of `statuses` is the usual one. `secured`: a token is needed when one is set.
    `patient`: it may wait for long, and is cancelled when its client leaves, as reads are.
    """
    types = (body, into, query, headers, answer, answer_headers)

    def register(handler: Handler) -> Handler:
        OPERATIONS.append(
            Operation(method, rule, handler, *types, statuses, errors, secured, patient)
        )
        return handler

    return register
