"""The teaching bench: a queue to take apart, its tables, and pictures of what happens in it.

It needs pandas, matplotlib and psycopg2, which the client `qlib` itself does without.
"""

from qlib.lab.checker import Verdict, check
from qlib.lab.course.claims import claim, claim_ratio
from qlib.lab.course.exercise import exercise
from qlib.lab.database.listing import source
from qlib.lab.database.query import sql
from qlib.lab.history import History, record
from qlib.lab.pictures.crash_strip import crash_strip
from qlib.lab.pictures.curve import curve
from qlib.lab.pictures.ladder import ladder
from qlib.lab.pictures.live import live, progress
from qlib.lab.pictures.strip import strip
from qlib.lab.pictures.timeline import timeline
from qlib.lab.sessions.crashes import crash_points
from qlib.lab.sessions.interleave import interleave
from qlib.lab.sessions.session import session
from qlib.lab.sessions.steps import SessionError
from qlib.lab.sessions.strategy import strategy
from qlib.lab.stack import Stack
from qlib.lab.stack.choice import crash, restart, up
from qlib.lab.stack.guarded import StackError
from qlib.lab.xray import xray

__all__ = [
    "History",
    "SessionError",
    "Stack",
    "StackError",
    "Verdict",
    "check",
    "claim",
    "claim_ratio",
    "crash",
    "crash_points",
    "crash_strip",
    "curve",
    "exercise",
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
    "xray",
]
