"""The judge of a run: a pure function from all that is known to one verdict."""

from __future__ import annotations

from qlib.lab.stress.check_log import Final, Visible, check_publishes
from qlib.lab.stress.check_subscribers import check_subscriber
from qlib.lab.stress.findings import Findings, Verdict
from qlib.lab.stress.records import OK, UNAVAILABLE, UNKNOWN, History


def check(history: History) -> Verdict:
    """Judge a run.

    It takes some 16 bytes of memory a message, and a little a publish; its time is proportional to
    the messages read back and the requests made. Raises only what reading the history does.
    """
    findings = Findings()
    for failure in history.failures:
        findings.add("failed", failure)
    for move in history.moves:
        findings.outcome(move.outcome, (OK, UNKNOWN, UNAVAILABLE), f"{move}")
    final = Final(history, findings)
    visible = [Visible(topic, history) for topic in range(history.topics)]
    check_publishes(history, final, visible, findings)
    for subscriber in range(len(history.fetches)):
        check_subscriber(subscriber, history, final, visible, findings)
    return _verdict(history, final, findings)


def _verdict(history: History, final: Final, findings: Findings) -> Verdict:
    published = in_doubt = settled = 0
    for publisher, calls in enumerate(history.publishes):
        for call in calls:
            if call.outcome == OK:
                published += call.size
            elif call.outcome == UNKNOWN:
                in_doubt += call.size
                settled += sum(map(bool, final.found(publisher, call)))
    return Verdict(published, in_doubt, settled, findings)
