"""An environment in which libpq goes astray: every variable that it knows, each with a bad value."""

import ctypes
from pathlib import Path

import psycopg2

_NAMES = "keyword envvar compiled val label dispchar"
# Those that are no option of a connection: where files are, and what a session begins with.
_OTHERS = ["PGSERVICEFILE", "PGSYSCONFDIR", "PGDATESTYLE", "PGTZ", "PGGEQO"]
_WELL_FORMED = {
    "PGHOSTADDR": "127.0.0.9",
    "PGPORT": "1",
    "PGOPTIONS": "-c no_such_setting=1",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCLIENTENCODING": "LATIN1",
    "PGREQUIREPEER": "somebody",
    "PGTZ": "Asia/Tokyo",
    "PGDATESTYLE": "German",
}


class _Option(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_char_p) for name in _NAMES.split()),
        ("dispsize", ctypes.c_int),
    ]


def misleading() -> dict[str, str]:
    """Return the variables with values that libpq or PostgreSQL refuses, or obeys to our harm."""
    names = [*_from_libpq(), *_OTHERS]
    return {name: _WELL_FORMED.get(name, "nonsense") for name in names}


def _from_libpq() -> list[str]:
    """Ask the very library that psycopg2 has loaded."""
    assert psycopg2.extensions.libpq_version()
    maps = Path("/proc/self/maps").read_text().splitlines()
    path = next(line.split()[-1] for line in maps if "/libpq" in line)
    ask = ctypes.CDLL(path).PQconndefaults
    ask.restype = ctypes.POINTER(_Option)
    found, place = [], 0
    options = ask()
    while options[place].keyword:
        if options[place].envvar:
            found.append(options[place].envvar.decode())
        place += 1
    return found
