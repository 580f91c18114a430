"""One server an address, and one form for every address.

Granian listens with SO_REUSEPORT: the kernel would let a second server of the same user listen on the
same port, and deal out the connections between the two.
"""

import socket
import sys
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv6Address


def in_url(address: str) -> str:
    """Return an IP address as it stands in a URL: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def compared(host: str) -> str:
    """Return a host as URLs have it in the one form in which it is compared.

    `[FD00:1:0::5]` is `[fd00:1::5]`, and an IPv4 address that is written as IPv6 is that IPv4 address. A zone is
    the caller's matter and no part of the name. What is no IPv6 address stays, in lower case.
    """
    host = host.lower()
    if host.startswith("[") and host.endswith("]"):
        with suppress(ValueError):
            address = IPv6Address(host[1:-1].partition("%")[0])
            return in_url(str(address.ipv4_mapped or address))
    return host


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
