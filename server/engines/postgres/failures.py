"""What a failure of PostgreSQL means to a caller: SQLSTATE -> code, in one table."""

import json
import logging

import psycopg2

from server.engines.errors import Busy, Code, EngineError, Unavailable

log = logging.getLogger(__name__)


class NotWritable(psycopg2.OperationalError):
    """The database takes no writes now: nothing was done, and a read from it may be stale."""


class Unfit(psycopg2.Error):
    """The queue cannot work on such a database, or through such a pooler."""


class Lost(psycopg2.OperationalError):
    """The session ended in mid-call: nobody knows whether the statement was carried out."""


class NotSent(psycopg2.OperationalError):
    """The session ended before the statement was sent: it surely did nothing."""


# SQLSTATE -> code; the functions' own errors, then Postgres' that a caller can do something about
SQLSTATE: dict[str, Code] = {
    "QL001": "topic_not_found",
    "QL002": "subscriber_not_found",
    "QL003": "topic_exists",
    "QL004": "offset_out_of_range",
    "QL005": "stale_epoch",
    "QL006": "sequence_conflict",
    "QL007": "invalid_name",
    "QL008": "invalid_message",
    "QL009": "invalid_request",
    "QL010": "lease_expired",
    "QL011": "key_order",
    "QL013": "leases_out",
    "22P02": "invalid_message",  # text that is not JSON to Postgres
    "54000": "invalid_message",  # nested or long beyond what Postgres takes apart
    "54001": "invalid_message",
    "22008": "invalid_request",  # a time, or its zone, that Postgres does not know
    "22009": "invalid_request",
    "22021": "invalid_request",  # not text in the database's encoding
    "53100": "disk_full",
    "25006": "unavailable",  # read only; this one and the next three are tried again before it comes to this
    "26000": "unavailable",  # a statement that somebody has deallocated
    "40001": "unavailable",
    "40P01": "unavailable",
    "53200": "unavailable",
    "53300": "unavailable",
    "55P03": "unavailable",  # somebody holds the topic's lock, or a subscriber's position
    "57014": "unavailable",  # took longer than statement_timeout
}

_EXPLAINED = {
    "22P02": "a payload is not JSON",
    "54000": "a payload is nested too deeply or too long",
    "54001": "a payload is nested too deeply or too long",
    "22008": "there is no such time",
    "22009": "a time zone lies less than 16 hours from UTC",
    "22021": "text that is not UTF-8",
    "25006": "the database takes no writes",
    "53100": "the disk is full",
    "55P03": "somebody has held for too long a lock that this needs",
    "57014": "it took too long and was given up",
}

_LOCKED = "55P03"

# a plan that is out of date, one that is gone, serialization, deadlock, a database that is read only (the next session
# may lead to another one)
_DID_NOT_HAPPEN = ("0A000", "26000", "40001", "40P01", "25006")


def did_not_happen(error: psycopg2.Error) -> bool:
    """Whether a statement surely did nothing, and may do it when it is tried again."""
    return isinstance(error, NotWritable) or error.pgcode in _DID_NOT_HAPPEN


def problem(error: psycopg2.Error, *, writes: bool) -> EngineError:
    """Say what an error means: from the session being lost, else from its SQLSTATE."""
    if isinstance(error, NotWritable):
        return Unavailable(str(error))
    if isinstance(error, NotSent):
        return Unavailable("the database was lost before this was sent")
    if isinstance(error, Lost):
        return _lost("the database was lost in mid-call", writes)
    if error.pgcode is None and writes:  # libpq's own, of an answer that it has no memory for, say
        _tell(error)
        return _lost("the database's answer could not be read", writes)
    return _of_state(error, error.pgcode or "")


def _lost(said: str, writes: bool) -> Unavailable:
    if writes:
        return Unavailable(f"{said}: it may have happened", outcome="unknown")
    return Unavailable(said)


def _tell(error: psycopg2.Error) -> None:
    # the first line alone: the others quote the statement, and with it what was published
    log.error("SQLSTATE %s: %s", error.pgcode, str(error).strip().split("\n")[0])


def _of_state(error: psycopg2.Error, state: str) -> EngineError:
    code = SQLSTATE.get(state, "internal")
    if code == "internal":
        _tell(error)
        return EngineError(code, "the server failed to carry this out; its log says more")
    if state.startswith("QL"):
        diagnostics = error.diag
        members = json.loads(diagnostics.message_detail) if diagnostics.message_detail else {}
        return EngineError(code, diagnostics.message_primary or code, **members)
    explained = _EXPLAINED.get(state, "the database cannot do this now")
    if state == _LOCKED:
        return Busy(explained)
    if code == "unavailable" or code == "disk_full":
        return Unavailable(explained, code=code)
    return EngineError(code, explained)
