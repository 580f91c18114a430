"""The application without a process around it."""

from flask import Flask

from server.app import create_app
from server.door import Door
from server.engines import Engine
from server.fusion import Fusion
from server.operations import Context
from server.wakeups import Wakeups


def application(engine: Engine) -> Flask:
    """Return the Flask application on an engine; its threads are not started."""
    wakeups = Wakeups(engine, 1)
    return create_app(Door(Context(engine, wakeups, Fusion(engine, wakeups.happened))))
