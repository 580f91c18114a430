"""What publishers were told, held against what the topic holds in the end."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import requests

from tests.server_process import ServerProcess


@dataclass
class History:
    """Every acknowledged publish, as value and offset; and how often an outcome was not known."""

    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    unknown: int = 0
    refused: int = 0


def publish_until(
    stopped: threading.Event, server: ServerProcess, producer: str, history: History
) -> None:
    """Publish numbered values one after the other; what is not acknowledged goes again as it was."""
    for sequence in itertools.count():
        value = f"{producer}-{sequence}"
        batch = {"payloads": [value], "producer": producer, "sequence": sequence}
        while (offset := _publish(server, batch, history)) is None:
            stopped.wait(0.02)  # a polite client; nothing depends on it
        history.acknowledged.append((value, offset))
        if stopped.is_set():
            return


def _publish(server: ServerProcess, batch: dict[str, object], history: History) -> int | None:
    try:
        answer = server.call("POST", "/topics/t/messages", batch, timeout=20)
    except requests.ConnectionError:
        history.unknown += 1
        return None
    if answer.status_code == 503:
        history.refused += 1
        return None
    assert answer.status_code == 201, answer.text
    return int(answer.json()["first_offset"])


def faults(acknowledged: list[tuple[str, int]], read: list[tuple[int, str]]) -> list[str]:
    """Return what is wrong with a final read: (offset, value) in the order of the topic."""
    found = []
    stored = dict(read)
    values = [value for _, value in read]
    if [offset for offset, _ in read] != list(range(1, len(read) + 1)):
        found.append("gap")
    found += [f"lost {value}" for value, _ in acknowledged if value not in values]
    found += [f"misplaced {value}" for value, at in acknowledged if stored.get(at) != value]
    if len(set(values)) < len(values):
        found.append("duplicate")
    if not set(values) <= {value for value, _ in acknowledged}:
        found.append("phantom")
    return found


def until_progress(histories: list[History], more: int) -> Callable[[], bool]:
    """Return a condition: every publisher was acknowledged so many times more."""
    goals = [len(history.acknowledged) + more for history in histories]
    return lambda: all(
        len(history.acknowledged) >= goal for history, goal in zip(histories, goals, strict=True)
    )
