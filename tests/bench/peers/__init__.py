"""Other queues, and ours beside them, all driven in the same way.

Each is used as its authors would, by the fastest way that keeps its promise; the modules say which. All clients
are Python, in this process: psycopg2, redis with hiredis, nats-py. To make of JSON texts what a queue takes is
part of a publish. A reader gets every message as Python objects, its payload as text or bytes, not parsed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import qlib.lab
from tests.bench.peers.jetstream import JetStream
from tests.bench.peers.ours import Ours
from tests.bench.peers.peer import Peer, Stand, TooFewError
from tests.bench.peers.pgmq import Pgmq
from tests.bench.peers.pgque import PgQue
from tests.bench.peers.process import program
from tests.bench.peers.redis_streams import RedisStreams

__all__ = ["Peer", "Stand", "TooFewError", "absent", "available"]

_STRATEGIES = Path(qlib.lab.__file__).with_name("sessions") / "strategies"

# A name, how to make the peer, and what it lacks here, if anything.
_Known = tuple[str, Callable[[str, Stand], Peer], str]


def available(stand: Stand) -> list[Peer]:
    """Return the peers that can run, ours first; each is started and ended as a context manager."""
    return [make(name, stand) for name, make, missing in _known() if not missing]


def absent() -> list[tuple[str, str]]:
    """Return those that cannot run here, by name, and what each of them lacks."""
    return [(name, missing) for name, _, missing in _known() if missing]


def _known() -> list[_Known]:
    files = sorted(_STRATEGIES.glob("*.sql"))
    redis = _no_program("redis-server") or _no_package("redis")
    return [
        ("ours (SQL)", Ours, ""),
        *((f"lab: {file.stem}", partial(Ours, strategy=file), "") for file in files),
        ("pgmq", Pgmq, _no_file("PGMQ_SQL")),
        ("PgQue", PgQue, _no_file("PGQUE_SQL")),
        ("Redis always", partial(RedisStreams, appendfsync="always"), redis),
        ("Redis everysec", partial(RedisStreams, appendfsync="everysec"), redis),
        ("NATS JetStream", JetStream, _no_program("nats-server") or _no_package("nats")),
    ]


def _no_file(variable: str) -> str:
    path = os.environ.get(variable)
    if not path:
        return f"${variable} does not name its SQL file"
    return "" if Path(path).is_file() else f"${variable}: there is no file {path}"


def _no_program(name: str) -> str:
    return "" if program(name) else f"there is no program {name}"


def _no_package(name: str) -> str:
    return "" if find_spec(name) else f"there is no Python package {name}"
