"""One server an address.

Granian listens with SO_REUSEPORT: the kernel would let a second server of the same user listen on the
same port, and deal out the connections between the two.
"""

import socket
import sys
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException


def claim(host: str, port: int) -> socket.socket:
    """Claim an address for this process; keep what is returned as long as it serves.

    Raises OSError when somebody listens there or has claimed it. The claim ends with the process,
    however that ends.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:  # it does not share: any listener is in its way
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
    claimed = socket.socket(socket.AF_UNIX)
    if sys.platform == "linux":
        # between the probe and the worker's listening lies a moment; a name without a file covers it
        try:
            claimed.bind(f"\0queue-server {host}:{port}")
        except OSError:
            claimed.close()
            raise
    return claimed


def answers(host: str, port: int) -> bool:
    """Whether a server there answers, be it that it cannot work now; asked for five seconds at the most."""
    with suppress(OSError, HTTPException), closing(HTTPConnection(host, port, timeout=5)) as door:
        door.request("GET", "/health")
        return door.getresponse().status > 0
    return False
