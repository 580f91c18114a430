"""Publishers and subscribers at work through several servers, whose every operation goes into one history."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from random import Random

from qlib import QPublisher, QSubscriber
from qlib.errors import QueueError
from qlib.lab.checker import Verdict, check
from qlib.lab.history import History
from qlib.lab.history.watched import WatchedPublisher, WatchedSubscriber
from tests.waiting import until

TOPIC = "orders"


class Crowd:
    """Clients in threads of their own, until they are told to stop; a context manager.

    What a server refuses is in the history, for the checker to judge; any other exception ends its
    thread and is raised by ``goes_on``.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._stop = threading.Event()
        self._rounds: dict[str, int] = {}
        self._broken: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._clients = ExitStack()

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._clients.close()

    def publish(self, url: str, name: str) -> None:
        """Publish through a server from now on, one message or a few."""
        client = self._watched_publisher(url)
        choose = Random(name)

        def once(n: int) -> None:
            count = choose.choice((1, 1, 5, 20))
            payloads = [f"{name}-{n}-{k}" for k in range(count)]
            if count == 1:
                client.publish(TOPIC, payloads[0])
            else:
                client.publish_many(TOPIC, payloads)

        self._work(name, once)

    def subscribe(self, url: str, name: str) -> None:
        """Fetch and acknowledge through a server from now on."""
        client = self._watched_subscriber(url, name)
        choose = Random(name)

        def once(_: int) -> None:
            if batch := client.fetch(choose.randint(1, 500), 0.2):
                client.ack(batch[choose.randrange(len(batch))])

        self._work(name, once)

    def reset(self, url: str, position: int) -> None:
        """Move all subscribers through a server, once."""
        self._watched_publisher(url).reset_topic(TOPIC, position)

    def goes_on(self) -> bool:
        """Wait until everybody has got through ten times more; raise what ended a thread."""
        goals = {name: done + 10 for name, done in self._rounds.items()}
        until(
            lambda: self._broken or all(self._rounds[name] >= goal for name, goal in goals.items()),
            60,
        )
        for error in self._broken:
            raise error
        return True

    def stop(self) -> None:
        """Let nobody begin anything more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _work(self, name: str, once: Callable[[int], None]) -> None:
        self._rounds[name] = 0

        def rounds() -> None:
            try:
                while not self._stop.is_set():
                    with suppress(QueueError):
                        once(self._rounds[name])
                    self._rounds[name] += 1
            except BaseException as error:
                self._broken.append(error)

        thread = threading.Thread(target=rounds, name=name)
        self._threads.append(thread)
        thread.start()

    def _watched_publisher(self, url: str) -> WatchedPublisher:
        return self._clients.enter_context(self._history.watch(QPublisher(url)))

    def _watched_subscriber(self, url: str, name: str) -> WatchedSubscriber:
        client = QSubscriber(TOPIC, name, start="earliest", url=url)
        return self._clients.enter_context(self._history.watch(client))


def verdict(history: History, url: str, subscribers: list[str]) -> Verdict:
    """Let every subscriber read to the head through a server, read all of it back, and judge."""
    for name in subscribers:
        with history.watch(QSubscriber(TOPIC, name, url=url)) as client:
            while batch := client.fetch(1000):
                client.ack(batch[-1])
    history.final_read()
    return check(history, valid=True)
