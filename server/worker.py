"""The worker process: it answers the requests. Its parent starts it again when it dies, and it dies with its parent."""

import os
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

from server import logs
from server.engines.postgres.engine import PostgresEngine
from server.http.app import create_app
from server.http.door import Door
from server.http.hot import HotRoutes
from server.http.operations import Context
from server.queue.fusion import Fusion
from server.queue.housekeeping import Housekeeping
from server.queue.wakeups import Wakeups
from server.settings import Settings


def load(settings: Settings, dsn: str, lifeline: tuple[Connection, Connection]) -> Any:
    """Make the WSGI application of this process and start its threads."""
    logs.configure(settings.log_level)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.setpgrp()  # Ctrl-C is for the parent alone: of two different signals at once, Granian can hang
    engine = PostgresEngine(dsn, pool_size=settings.connections)
    wakeups = Wakeups(engine, settings.long_polls)
    housekeeping = Housekeeping(engine)
    wakeups.start()
    housekeeping.start()
    reader, writer = lifeline
    writer.close()
    threading.Thread(
        target=_hold, args=(reader, wakeups, housekeeping), name="lifeline", daemon=True
    ).start()
    door = Door(
        Context(engine, wakeups, Fusion(engine, wakeups.happened)),
        token=settings.token,
        hosts=settings.hosts,
        bodies=settings.threads - settings.long_polls - 100,
    )
    return HotRoutes(door, create_app(door))


def _hold(lifeline: Connection, wakeups: Wakeups, housekeeping: Housekeeping) -> None:
    try:
        lifeline.recv_bytes()  # the parent says that the end is near: long polls end early
        wakeups.stop()
        housekeeping.stop()
        lifeline.recv_bytes()
    except EOFError:  # the parent is gone: without it nobody would look after this process
        if not wakeups.stopping:
            os._exit(1)
