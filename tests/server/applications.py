"""The application without a process around it."""

from flask import Flask

from server.engines import Engine
from server.http.app import create_app
from server.http.door import Door
from server.http.operations import Context
from server.queue.fusion import Fusion
from server.queue.wakeups import Wakeups


def application(engine: Engine) -> Flask:
    """Return the Flask application on an engine; its threads are not started."""
    wakeups = Wakeups(engine, 1)
    return create_app(Door(Context(engine, wakeups, Fusion(engine, wakeups.happened))))
