"""What the lab offers."""

from qlib import lab


def test_what_the_lab_offers() -> None:
    assert lab.__all__ == [
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
    assert all(getattr(lab, name).__doc__ for name in lab.__all__)
