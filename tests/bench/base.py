"""This checkout beside another, which BENCH_BASE names: its server and its client, in the same rounds.

Each server has an embedded PostgreSQL of its own, and each client a process. Single publishes to one topic come from
wrk. What a call of a client costs is the time of its process alone, and both call the same server, this one's.
Delivered to 16: each client with its own server. Idle long polls: see the part waiting; 1,000 of them, since that is
how many the base may take. Two equal checkouts differ by up to a tenth. Left out: everything that is the same SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from tests.bench import waiting
from tests.bench.checkout import VARIABLE, Client, NoCheckoutError, Server, base, this
from tests.bench.load import has_wrk, wrk
from tests.bench.messages import array, payloads
from tests.bench.rounds import RATE, Contender, Figures, Result, interleave
from tests.bench.stand import Stand

PART = "base"
BASE, THIS = "base", "this"
CONNECTIONS = (1, 16, 64)
CPU, WALL = "ms of CPU a call", "ms a call"
FETCH, PUBLISH, MANY = "qlib.fetch(1000)", "qlib.publish", "qlib.publish_many(1000)"
DELIVERED = "qlib, delivered to 16"
_FINER = 3  # rounds of singles, which differ the least and are the shortest
_SIZE = 1_000
_CALLS = {FETCH: ("fetching", 50), PUBLISH: ("publishing", 300), MANY: ("publishing_many", 50)}
_MESSAGES, _SUBSCRIBERS = 20_000, 16
_POLLS = 1_000

# The base first: what is compared is this one / the base.
Pair = dict[str, Server]
Clients = dict[str, Client]


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure all cases. Raises NoCheckoutError when there is no base."""
    other = base()
    if other is None:
        raise NoCheckoutError(f"{VARIABLE} does not name another checkout")
    with ExitStack() as opened:
        servers = {
            BASE: opened.enter_context(other.serving()),
            THIS: Server(stand.url, stand.served),
        }
        clients = {
            BASE: opened.enter_context(other.client()),
            THIS: opened.enter_context(this().client()),
        }
        return [
            *(singles(stand, servers, rounds) if has_wrk() else []),
            *calls(stand, clients, rounds),
            *delivered(stand, servers, clients, rounds),
            *polled(stand, servers, rounds),
        ]


def case(connections: int) -> str:
    """Return the name of the case of single publishes over so many connections."""
    return f"single × 100 B to one topic, connections: {connections}"


def singles(stand: Stand, servers: Pair, rounds: int) -> list[Result]:
    """Publish single messages over HTTP."""
    results = []
    for connections in CONNECTIONS:
        contenders = [
            Contender(name, partial(_load, server.url, _topic(stand, server), connections))
            for name, server in servers.items()
        ]
        results += interleave(PART, case(connections), contenders, _FINER * rounds)
    return results


def calls(stand: Stand, clients: Clients, rounds: int) -> list[Result]:
    """Call what costs a client the most, each client on a topic of its own of this server."""
    here = Server(stand.url, stand.served)
    results = []
    for name, (work, times) in _CALLS.items():
        contenders = []
        for whose, client in clients.items():
            topic = _topic(stand, here, messages=_SIZE)
            order = partial(client.do, work, stand.url, topic, size=_SIZE, calls=times)
            contenders.append(Contender(whose, partial(_a_call, order, times)))
        results += interleave(PART, name, contenders, rounds)
    return results


def delivered(stand: Stand, servers: Pair, clients: Clients, rounds: int) -> list[Result]:
    """Publish, and deliver to 16 subscribers, with the client and the server of each."""
    order = {"size": _MESSAGES, "subscribers": _SUBSCRIBERS}

    def work(whose: str) -> Figures:
        server = servers[whose]
        topic = _topic(stand, server)
        took = clients[whose].do("fanning_out", server.url, topic, **order)
        return {RATE: _MESSAGES * _SUBSCRIBERS / took["wall"]}

    contenders = [Contender(whose, partial(work, whose)) for whose in servers]
    return interleave(PART, DELIVERED, contenders, rounds)


def polled(stand: Stand, servers: Pair, rounds: int) -> list[Result]:
    """Let long polls wait in each server."""
    with ExitStack() as opened:
        contenders = []
        for whose, server in servers.items():
            crowd = waiting.Crowd(server.url, stand.cursor(server.dsn), _POLLS, PART)
            contenders.append(opened.enter_context(crowd).contender(whose))
        return interleave(PART, waiting.case(_POLLS), contenders, rounds)


def _topic(stand: Stand, server: Server, messages: int = 0) -> str:
    """Make a new topic in a server's database, with messages; return its name."""
    cursor, topic = stand.cursor(server.dsn), f"base-{next(stand.numbers)}"
    cursor.execute("select queue.create_topic(%s)", (topic,))
    if messages:
        cursor.execute("select queue.publish_batch(%s, %s)", (topic, array(payloads(messages))))
    cursor.connection.close()
    return topic


def _load(url: str, topic: str, connections: int) -> Figures:
    return wrk(url, [topic], payloads(1), connections)


def _a_call(order: Callable[[], dict[str, float]], times: int) -> Figures:
    took = order()
    return {CPU: 1e3 * took["cpu"] / times, WALL: 1e3 * took["wall"] / times}
