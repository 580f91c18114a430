"""What tests ask a verdict."""

from qlib.lab.checker import Verdict


def names(verdict: Verdict) -> set[str]:
    """Return the names of all that was found."""
    return {anomaly.name for anomaly in verdict.anomalies}
