"""Settings: from flags, else from the environment. There is no configuration file."""

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from server.address import compared, in_url
from server.engines.postgres.starting import is_connection_string
from server.logs import LEVELS

_EPILOG = """
The token is never a flag, since everybody can see those: QUEUE_TOKEN, or QUEUE_TOKEN_FILE with the path of a file that
holds it. When it is set, every route but /health needs "Authorization: Bearer TOKEN". Without one, the server listens
on a loopback address only.
"""


@dataclass(frozen=True)
class Settings:
    """How a server runs."""

    host: str
    port: int
    database_url: str | None = field(repr=False)  # it may hold a password
    data: Path
    token: str | None = field(repr=False)
    hosts: tuple[str, ...]
    long_polls: int
    connections: int
    log_level: str


def parse(arguments: list[str] | None = None) -> Settings:
    """Read flags and environment. Exits with a message when they make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m server", description="Serve the queue over HTTP.", epilog=_EPILOG
    )
    _add_flags(_Adder(parser))
    found = parser.parse_args(arguments)
    token = _token(parser)
    _check(parser, found, token)
    return Settings(
        found.host,
        found.port,
        found.database_url,
        found.data.absolute(),
        token,
        (in_url(found.host), *found.allow_host),
        found.long_polls,
        found.connections,
        found.log_level,
    )


def _add_flags(add: "_Adder") -> None:
    polls = "long polls at once; one more is answered 503"
    connections = "database connections at the most, beside two"
    add("--host", "QUEUE_HOST", "127.0.0.1", _address, "IP address to listen on")
    add("--port", "QUEUE_PORT", 8008, int, "port to listen on")
    add(
        "--database-url",
        "DATABASE_URL",
        None,
        _connection_string,
        "PostgreSQL to use (15 to 18), as a URL or libpq keywords; unset: an embedded one in --data",
    )
    add("--data", "QUEUE_DATA", Path(".queue"), Path, "directory of the embedded PostgreSQL")
    add(
        "--allow-host",
        "QUEUE_ALLOW_HOST",
        "",
        _names,
        "names that the server may be called by, separated by commas, beside localhost and --host",
    )
    add("--long-polls", "QUEUE_LONG_POLLS", 10_000, int, polls)
    add("--connections", "QUEUE_CONNECTIONS", 16, int, connections)
    add(
        "--log-level",
        "QUEUE_LOG_LEVEL",
        "info",
        _level,
        "which requests have a line on stderr: error (those that failed), warning (also 503 and 507), info (also those "
        "that were refused) or debug (all)",
    )


def _check(parser: argparse.ArgumentParser, found: argparse.Namespace, token: str | None) -> None:
    if token is None and not ip_address(found.host).is_loopback:
        parser.error(f"--host {found.host} needs a token: set QUEUE_TOKEN or QUEUE_TOKEN_FILE")
    if found.long_polls < 0 or found.connections < 1 or not 0 < found.port < 65536:
        parser.error(
            "--long-polls is at least 0, --connections at least 1, and --port is 1 to 65535"
        )


def _address(text: str) -> str:
    try:
        address = ip_address("127.0.0.1" if text == "localhost" else text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from None
    if isinstance(address, IPv6Address):
        if address.is_link_local or address.scope_id:  # nor zones
            said = "cannot be listened on alone: --host ::, and its name in --allow-host"
            raise argparse.ArgumentTypeError(f"the link-local address {text} {said}")
        address = address.ipv4_mapped or address
    return str(address)


def _names(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    return tuple(compared(_bracketed(name)) for name in names if name)


def _bracketed(name: str) -> str:
    with suppress(ValueError):
        return in_url(str(ip_address(name)))
    if ":" in name and not name.endswith("]"):
        raise argparse.ArgumentTypeError(f"{name!r} is not a name or an address without a port")
    return name


def _connection_string(text: str) -> str:
    if not is_connection_string(text):
        raise argparse.ArgumentTypeError("neither a URL nor keywords of libpq")
    return text


def _level(text: str) -> str:
    if text.lower() not in LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LEVELS)}")
    return text.lower()


class _Adder:
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser

    def __call__(
        self, flag: str, variable: str, default: object, kind: Callable[[str], object], text: str
    ) -> None:
        shown = f"{text} [${variable}; default: {'none' if default in (None, '') else default}]"
        # argparse converts a default that is a string, so the environment is checked like a flag
        value = os.environ.get(variable) or default
        self._parser.add_argument(
            flag, type=kind, default=value, help=shown, metavar=flag.upper()[2:]
        )


def _token(parser: argparse.ArgumentParser) -> str | None:
    token, path = os.environ.get("QUEUE_TOKEN"), os.environ.get("QUEUE_TOKEN_FILE")
    if token and path:
        parser.error("QUEUE_TOKEN and QUEUE_TOKEN_FILE are both set: which one?")
    if path:
        try:
            token = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            parser.error(f"QUEUE_TOKEN_FILE cannot be read: {error}")
        if not token:
            parser.error(f"QUEUE_TOKEN_FILE is empty: {path}")
    if token and not (token.isascii() and token.isprintable()):
        parser.error("a token is printable ASCII: it travels in a header")
    return token or None
