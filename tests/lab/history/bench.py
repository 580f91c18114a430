"""Clients that are watched, for tests."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from qlib import QPublisher, QSubscriber
from qlib.lab.checker import Verdict, check
from qlib.lab.history import record
from qlib.lab.history.watched import WatchedPublisher, WatchedSubscriber

Spoil = Callable[[str, str, str], None]


class Bench:
    """A history and clients that are watched by it; all are closed in the end."""

    def __init__(self, url: str, closing: ExitStack) -> None:
        self.history, self._url, self._closing = record(), url, closing
        self.pub = self.publisher()

    def publisher(self) -> WatchedPublisher:
        return self._closing.enter_context(self.history.watch(QPublisher(self._url)))

    def subscriber(
        self, topic: str, name: str, start: Any = "earliest", **settings: Any
    ) -> WatchedSubscriber:
        client = QSubscriber(topic, name, start, url=self._url, **settings)
        return self._closing.enter_context(self.history.watch(client))

    def verdict(self) -> Verdict:
        self.history.final_read()
        return check(self.history)

    def outcomes(self) -> Counter[str]:
        return Counter(f"{o.kind} {o.outcome}" for o in self.history.operations)
