"""What an X-ray needs of a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2.extensions import connection, cursor

BOUNDED = "-c lock_timeout=10s -c statement_timeout=30s -c synchronous_commit=on"
"""Options of a session: nothing waits for ever, and what is committed can be read in the WAL."""

_NEEDED = ("pageinspect", "pg_walinspect")
_PRIVATE = "a private queue of the lab has all of it"
_NO_SUPERUSER = "lab.xray needs a superuser of PostgreSQL, and {0!r} is none here: " + _PRIVATE
_TOO_OLD = "lab.xray needs PostgreSQL 15 or newer, and this is {0}: " + _PRIVATE
_MISSING = (
    "lab.xray needs {0}, which this PostgreSQL does not have: install its contrib package there; "
    + _PRIVATE
)
# They stay: to roll them back would leave dead rows in the catalogues, and whoever comes upon these
# next, our statement, cleans up and writes that to the WAL.
_CREATE = "create extension if not exists {} schema pg_catalog"
_AT_HAND = """
select set_config('search_path', string_agg(quote_ident(nspname), ','), true)
from pg_extension join pg_namespace n on n.oid = extnamespace where extname = any(%s)
"""


def check(session: connection) -> None:
    """Load auto_explain, create the extensions; raise PermissionError or LookupError when something is missing."""
    if session.info.server_version < 150000:
        raise LookupError(_TOO_OLD.format(session.info.parameter_status("server_version")))
    if session.info.parameter_status("is_superuser") != "on":
        raise PermissionError(_NO_SUPERUSER.format(session.info.user))
    with session, session.cursor() as done:
        done.execute("select name from pg_available_extensions where name = any(%s)", [[*_NEEDED]])
        missing = sorted({*_NEEDED} - {name for (name,) in done})
        if missing:
            raise LookupError(_MISSING.format("the extension " + " and ".join(missing)))
        try:
            done.execute("load 'auto_explain'")
        except psycopg2.errors.UndefinedFile:
            raise LookupError(_MISSING.format("the module auto_explain")) from None
        for name in _NEEDED:
            done.execute(_CREATE.format(name))


@contextmanager
def extended(session: connection) -> Iterator[cursor]:
    """Have the extensions' functions at hand in a transaction, wherever somebody has put them."""
    with session, session.cursor() as done:
        done.execute(_AT_HAND, [[*_NEEDED]])
        yield done
