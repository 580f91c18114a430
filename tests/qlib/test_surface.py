"""What `qlib` is from outside: its names, and what importing it loads."""

import json
import subprocess
import sys

import qlib


def test_all_is_exactly_this():
    assert qlib.__all__ == sorted(qlib.__all__)
    assert qlib.__all__ == [
        "Acked",
        "Batch",
        "Buffered",
        "DeadLetter",
        "DefiniteError",
        "Handle",
        "IndefiniteError",
        "InvalidRequest",
        "KeyOrder",
        "Lease",
        "LeaseExpired",
        "LeaseInfo",
        "LeasedMessage",
        "LeasesOut",
        "Message",
        "MessageTooLarge",
        "Nacked",
        "NotSent",
        "OffsetOutOfRange",
        "OutcomeUnknown",
        "QPublisher",
        "QSubscriber",
        "QueueError",
        "Reset",
        "SequenceConflict",
        "StaleEpoch",
        "Subscriber",
        "SubscriberNotFound",
        "Topic",
        "TopicExists",
        "TopicNotFound",
        "Unauthorized",
        "Unavailable",
        "UnreadableAnswer",
        "UnreadableMessage",
    ]
    for name in qlib.__all__:
        assert getattr(qlib, name).__doc__


def loaded_by(statement: str) -> set[str]:
    """Return the modules, by their top-level names, that a statement loads in a fresh Python."""
    script = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, timeout=60, text=True
    ).stdout
    return {name if name.startswith("qlib.lab") else name.split(".")[0] for name in json.loads(out)}


def test_the_core_loads_only_requests_and_msgspec():
    heavy = {"pandas", "matplotlib", "numpy", "psycopg2", "flask", "server", "qlib.lab"}
    modules = loaded_by("import qlib")
    assert {"qlib", "requests", "msgspec"} <= modules
    assert not modules & heavy
    assert loaded_by("import qlib, psycopg2") & heavy == {"psycopg2"}  # the check can fail
