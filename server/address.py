"""One form for every address."""

from contextlib import suppress
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
