"""Housekeeping: removes, now and then and chunk by chunk, what nobody needs any more."""

import logging
import threading

from server.engines import Engine
from server.http.errors import Problem

log = logging.getLogger(__name__)

_BETWEEN_ROUNDS = 60.0
_BETWEEN_CHUNKS = 0.1


class Housekeeping:
    """A thread that tidies until there is nothing to do, and begins again a minute later."""

    def __init__(self, engine: Engine) -> None:
        """Start nothing yet."""
        self._engine = engine
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        pause = _BETWEEN_ROUNDS
        while not self._stopping.wait(pause):
            try:
                pause = _BETWEEN_CHUNKS if self._engine.tidy() else _BETWEEN_ROUNDS
            except Problem as problem:
                log.warning("not tidied: %s", problem.detail)
                pause = _BETWEEN_ROUNDS
