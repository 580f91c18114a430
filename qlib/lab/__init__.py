"""The teaching bench: a queue to take apart, its tables, and pictures of what happens in it.

It needs pandas, matplotlib and psycopg2, which the client `qlib` itself does without.
"""

from qlib.lab.checker import Verdict, check
from qlib.lab.claims import claim
from qlib.lab.curve import curve
from qlib.lab.guarded import StackError
from qlib.lab.history import History, record
from qlib.lab.interleave import interleave
from qlib.lab.ladder import ladder
from qlib.lab.live import live, progress
from qlib.lab.query import source, sql
from qlib.lab.session import session
from qlib.lab.stack import Stack, crash, restart, up
from qlib.lab.steps import SessionError
from qlib.lab.strategy import strategy
from qlib.lab.strip import strip
from qlib.lab.timeline import timeline

__all__ = [
    "History",
    "SessionError",
    "Stack",
    "StackError",
    "Verdict",
    "check",
    "claim",
    "crash",
    "curve",
    "interleave",
    "ladder",
    "live",
    "progress",
    "record",
    "restart",
    "session",
    "source",
    "sql",
    "strategy",
    "strip",
    "timeline",
    "up",
]
