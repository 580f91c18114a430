"""`python -m tests.dead_resolver`: the server, with a resolver that is dead while there is a file.

The file is named by DEAD_RESOLVER; `db.example` is this machine.
"""

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from server.__main__ import main

_getaddrinfo = socket.getaddrinfo


def _look_up(host: Any, *arguments: Any, **named: Any) -> Any:
    if host != "db.example":
        return _getaddrinfo(host, *arguments, **named)
    while Path(os.environ["DEAD_RESOLVER"]).exists():
        time.sleep(0.05)
    return _getaddrinfo("127.0.0.1", *arguments, **named)


socket.getaddrinfo = _look_up  # in the worker, too: it begins by importing this module

if __name__ == "__main__":
    sys.exit(main())
