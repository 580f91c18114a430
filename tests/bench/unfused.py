"""`python -m tests.bench.unfused`: the server, but each lease and each ack is a statement and a transaction of its own.

A worker process is made by running this module again, so both of the server's processes are as it says.
"""

from __future__ import annotations

import sys

from server.__main__ import main
from server.queue import crew, lines

crew._MOST = lines._MOST = 1
lines._SOON = 0  # none waits for another's commit

if __name__ == "__main__":
    sys.exit(main())
