"""The teaching bench: a queue to take apart, its tables, and pictures of what happens in it.

It needs pandas, matplotlib and psycopg2, which the client `qlib` itself does without.
"""

from qlib.lab.claims import claim
from qlib.lab.guarded import StackError
from qlib.lab.interleave import interleave
from qlib.lab.plots import ladder
from qlib.lab.query import source, sql
from qlib.lab.session import session
from qlib.lab.stack import Stack, up
from qlib.lab.steps import SessionError
from qlib.lab.strategy import strategy
from qlib.lab.timeline import timeline

__all__ = [
    "SessionError",
    "Stack",
    "StackError",
    "claim",
    "interleave",
    "ladder",
    "session",
    "source",
    "sql",
    "strategy",
    "timeline",
    "up",
]
