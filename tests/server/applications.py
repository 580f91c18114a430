"""The application without a process around it."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from server.engines import Engine
from server.http.app import create_app
from server.http.door import Door
from server.http.operations import Context
from server.queue.fusion import Fusion
from server.queue.leases import Leases
from server.queue.wakeups import Wakeups
from tests.loop import looping


def opened(engine: Engine) -> Door:
    """Return a door to an engine, whose tasks are not started. On the loop."""
    wakeups = Wakeups(engine, 1)
    fusion = Fusion(engine, wakeups.happened)
    return Door(Context(engine, wakeups, fusion, Leases(engine, wakeups, fusion.turns)))


@contextmanager
def application(engine: Engine) -> Iterator[Flask]:
    """Yield the Flask application on an engine, with a loop of its own; close the engine."""
    with looping() as loop:
        yield create_app(opened(engine), loop.run)
        loop.run(engine.close())
