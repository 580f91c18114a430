"""Another reader under the same name: it gets the same messages, and nothing else would tell."""

from __future__ import annotations

import logging
import re
from time import monotonic

from qlib.transport import Reply

_SECONDS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?")

_log = logging.getLogger("qlib")


class Others:
    """Warns once when another client fetches for a subscriber while this one does.

    Whoever fetched before this one began is no such client: a reader that was started again, say.
    """

    def __init__(self, topic: str, subscriber: str) -> None:
        """Know of nobody yet."""
        self._who = f"subscriber {subscriber!r} of topic {topic!r}"
        self._client: str | None = None
        self._began = 0.0
        self._warned = False

    def heard(self, sent: float, client: str | None, reply: Reply) -> None:
        """Take note of the answer to a fetch that was `sent` then."""
        if self._client != client:
            # After a fork, it is the child's own: another reader than its parent.
            self._client, self._began, self._warned = client, monotonic(), False
            return
        told = reply.headers.get("queue-other-client", "")
        if self._warned or not _SECONDS.fullmatch(told):
            return
        if float(told) < sent - self._began:
            self._warned = True
            _log.warning(
                "another reader fetches as %s, too (%.1f s ago): both get the same messages and do"
                " the same work; give each a name of its own, or let them share it: sub.work or"
                " sub.lease",
                *(self._who, float(told)),
            )
