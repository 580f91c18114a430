"""Where a connection string leads: every address of it, found without holding up the loop.

libpq looks names up in the thread that calls it, and psycopg2 holds the interpreter meanwhile: everything would stand
still. So names are looked up here, in threads, and libpq is given one address at a time.
"""

import asyncio
import os
import random
import socket
import threading
from concurrent.futures import Future
from configparser import ConfigParser, Error
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psycopg2
from psycopg2.extensions import parse_dsn

_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
}


class Place(NamedTuple):
    """One of the places that a connection string names, each as libpq writes it; "" where it says nothing."""

    host: str
    hostaddr: str
    port: str

    async def addresses(self, seconds: float | None) -> list["Place"]:
        """Return its addresses: one for each that its name stands for. Raises psycopg2.OperationalError."""
        if self.hostaddr or self.host.startswith(("/", "@")) or not self.host:
            return [self]
        return [self._replace(hostaddr=found) for found in await _look_up(self.host, seconds)]


def said(dsn: str) -> dict[str, str]:
    """Return what a connection string says, with what it leaves to its service and to the environment."""
    given = parse_dsn(dsn)
    service = given.get("service") or os.environ.get("PGSERVICE")
    variables = {name: os.environ.get(variable, "") for name, variable in _VARIABLES.items()}
    return variables | (_service(service) if service else {}) | given


def places(found: dict[str, str]) -> list[Place]:
    """Return the places that are named, in the order in which they are to be tried.

    None at all means that libpq has to say: where a database is when nothing says so, or what is wrong.
    """
    hosts, addresses, ports = (found[name].split(",") for name in Place._fields)
    count = max(len(hosts), len(addresses))
    hosts = hosts if found["host"] else [""] * count
    addresses = addresses if found["hostaddr"] else [""] * count
    ports = ports * count if len(ports) == 1 else ports
    if not (found["host"] or found["hostaddr"]) or not len(hosts) == len(addresses) == len(ports):
        return []
    named = [Place(*row) for row in zip(hosts, addresses, ports, strict=True)]
    if found["load_balance_hosts"] == "random":
        random.shuffle(named)
    return named


def _service(name: str) -> dict[str, str]:
    # where libpq has been told to look; what it finds elsewhere, it finds by itself
    files = [
        os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf",
        Path(os.environ.get("PGSYSCONFDIR", "/nowhere")) / "pg_service.conf",
    ]
    for file in files:
        services = ConfigParser(
            interpolation=None, strict=False, delimiters="=", comment_prefixes="#"
        )
        with suppress(Error, OSError, UnicodeDecodeError):
            services.read(file, encoding="utf-8")
            if services.has_section(name):
                return dict(services[name])
    return {}


_under_way: dict[str, Future[list[str]]] = {}


async def _look_up(host: str, seconds: float | None) -> list[str]:
    # one thread a name, however many ask and give up while the resolver is dead
    if (found := _under_way.get(host)) is None:
        found = _under_way[host] = Future()
        found.set_running_or_notify_cancel()  # who gives up leaves it to the others
        try:
            threading.Thread(target=_find, args=(host, found), name="lookup", daemon=True).start()
        except RuntimeError as error:  # there are too many threads
            del _under_way[host]
            found.set_exception(OSError(str(error)))
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(found)
    except TimeoutError:
        why = f"no answer within {seconds:g} s"
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
    raise psycopg2.OperationalError(f'could not translate host name "{host}" to address: {why}')


def _find(host: str, found: Future[list[str]]) -> None:
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except Exception as error:
        del _under_way[host]
        found.set_exception(error)
    else:
        del _under_way[host]
        found.set_result(list(dict.fromkeys(str(info[4][0]) for info in infos)))
