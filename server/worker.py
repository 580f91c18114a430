"""The worker process: it answers the requests. When it dies, another one is started; it dies with its parent."""

import asyncio
import os
import signal
import socket
from functools import partial
from multiprocessing.connection import Connection

import uvloop

from server import logs
from server.engines.postgres.engine import PostgresEngine
from server.http.app import create_app
from server.http.behind import Behind
from server.http.door import Door, refused
from server.http.hot import HotRoutes
from server.http.operations import Context
from server.http.serving import Server
from server.queue.fusion import Fusion
from server.queue.housekeeping import Housekeeping
from server.queue.leases import Leases
from server.queue.wakeups import Wakeups
from server.settings import Settings


def work(settings: Settings, dsn: str, listener: socket.socket, lifeline: Connection) -> None:
    """Serve on a listening socket until SIGTERM; say over the lifeline when clients are answered."""
    logs.configure(settings.log_level)
    os.setpgrp()  # Ctrl-C and the terminal's end are for the parent alone
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, dsn, listener, lifeline))


async def _serve(
    settings: Settings, dsn: str, listener: socket.socket, lifeline: Connection
) -> None:
    ended = _told_to_end(lifeline)
    engine = PostgresEngine(dsn, pool_size=settings.connections)
    wakeups = Wakeups(engine, settings.long_polls)
    fusion = Fusion(engine, wakeups.happened)
    leases = Leases(engine, wakeups, fusion.turns)
    housekeeping = Housekeeping(engine)
    wakeups.start()
    housekeeping.start()
    door = Door(
        Context(engine, wakeups, fusion, leases),
        token=settings.token,
        hosts=settings.hosts,
    )
    behind = Behind(partial(create_app, door), door.trusts)
    server = Server(HotRoutes(door, behind), refused)
    ready = partial(lifeline.send_bytes, b"ready")
    await server.serve(listener, ended, ready, wakeups.stop)
    await leases.stop()
    await housekeeping.stop()
    await behind.close()
    await engine.close()


def _told_to_end(lifeline: Connection) -> asyncio.Event:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # held since before this process began

    def alone() -> None:
        loop.remove_reader(lifeline.fileno())
        if not ended.is_set():  # without its parent nobody would look after this process
            os._exit(1)

    loop.add_reader(lifeline.fileno(), alone)
    return ended
