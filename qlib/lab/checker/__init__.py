"""One verdict on a history: every promise that it shows broken, by the promise's name.

What can be found, and which word of the verdict line counts it:

| name | word | meaning |
|---|---|---|
| lost-write | lost | what a publish returned an offset for, or a read saw, is not in the final read |
| lost-work | lost | a position passed what is neither acknowledged nor a dead letter |
| duplicate | duplicated | one value at more offsets than it was published |
| dedupe-miss | duplicated | a numbered publish and its repetition were both stored |
| nonmonotonic-send | out of order | a publish after another one's end has the lower offset |
| batch-order | out of order | a batch was not stored whole and at consecutive offsets |
| int-nonmonotonic-poll | out of order | the offsets inside one read do not ascend |
| nonmonotonic-poll | out of order | with no reset between, a later fetch stands earlier |
| int-poll-skip | out of order | one fetch or browse leaves out a message in its middle |
| poll-skip | out of order | a fetch begins behind messages that are not acknowledged |
| key-order | out of order | with order, worked on beside an earlier message of its key |
| unseen | skipped | a position passed a message that was never delivered |
| lease-stuck | skipped | in the end a message is not done, dead or leased, and no lease brings it |
| inconsistent-offsets | wrong | two values at one offset |
| gap | wrong | a hole between floor and head that no lost write explains |
| bad-first-offset | wrong | the first message is not at the floor |
| aborted-read | wrong | the value of a publish that failed was seen |
| phantom | wrong | a value that nobody sent was seen |
| wrong-topic | wrong | a value was seen in a topic that it was not published to |
| corrupt | wrong | an altered value was seen where a publish had put its own |
| future-read | wrong | a value was seen before its publish began |
| lost-ack | wrong | a position behind an ack, reset or seek that had ended |
| phantom-position | wrong | a position where no start, ack, reset or seek put it |
| stale-read | wrong | a fetch stops short of a message whose publish had ended |
| stale-empty | wrong | a fetch returns nothing, although a publish had ended |
| ack-beyond-head | wrong | an ack of a message that could not exist was accepted |
| reset-undone | wrong | an ack from before a reset or seek was accepted after it |
| false-dedupe | wrong | two different numbered publishes were stored as one |
| double-lease | wrong | what one worker had leased, or what was over, was leased again |
| zombie-ack | wrong | an ack, nack or extension of a lease that was over, was accepted |
| attempts | wrong | the number of an attempt does not count the leases of the message |
| spurious-fail | wrong | a valid operation failed, and there were no faults |

Each fault has one name. Two come together only where one leads to the other: false-dedupe, and
inconsistent-offsets of two publishes, to the lost-write of the message that is not there; poll-skip,
int-poll-skip, phantom-position and reset-undone to unseen, once the message left out is acknowledged
over.

Only what ended before another thing began is taken to have happened before it. An outcome that is
unknown may have happened at any time after its start, or never. Two leases are compared by the
clock of the database alone, which says when each of them begins and ends; a lease, nack or extension
that a crash of the database may have undone is no evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from qlib.lab.checker.failures import check_failures
from qlib.lab.checker.log import Log
from qlib.lab.checker.order import check_order
from qlib.lab.checker.places import check_places
from qlib.lab.checker.positions import check_positions
from qlib.lab.checker.reads import check_reads
from qlib.lab.checker.restarts import Restarts
from qlib.lab.checker.verdict import ANOMALIES, Anomaly, Findings, Verdict
from qlib.lab.checker.writes import Write, writes
from qlib.lab.history import History
from qlib.lab.history.operation import Operation

__all__ = ["ANOMALIES", "Anomaly", "Verdict", "check"]


def check(history: History, *, faults: bool = False, valid: bool = False) -> Verdict:
    """Judge a history. It takes O(n log n) for n operations and messages.

    Without a final read, what only that can show is not found: lost-write, gap, bad-first-offset,
    ack-beyond-head, lease-stuck. With `faults` the queue was disturbed on purpose, and may refuse to
    serve; its database may have crashed in the restarts that the history tells of, or at any time
    when it tells of none. With `valid` no request gave it any other reason to refuse than an epoch that was over.
    Topics that were deleted are left out, and so are the positions of subscribers that were.
    Raises ValueError when an operation has other than one value an offset.
    """
    findings = Findings()
    restarts = Restarts(history.operations, faults)
    deleted = {o.topic for o in history.operations if _removes(o, "delete_topic")}
    operations = [o for o in history.operations if o.topic not in deleted]
    sent = writes(operations, findings)
    topics = _by_topic(operations, sent)
    anywhere = {value: write.topic for write in sent for value in write.values}
    logs = [Log(topic, *facts, anywhere, findings) for topic, facts in sorted(topics.items())]
    for log in logs:
        _check_topic(log, restarts, faults, valid, findings)
    return Verdict(
        published=sum(len(write.values) for write in sent if write.outcome == "ok"),
        anomalies=findings.anomalies(),
        operations=len(operations),
        observations=sum(len(o.offsets) for log in logs for o in log.reads),
    )


def _check_topic(
    log: Log, restarts: Restarts, faults: bool, valid: bool, findings: Findings
) -> None:
    check_places(log, findings)
    check_order(log, findings)
    check_reads(log, findings)
    check_failures(log, faults, valid, findings)
    subscribers: dict[str, list[Operation]] = defaultdict(list)
    for operation in log.operations:
        if operation.subscriber is not None:
            subscribers[operation.subscriber].append(operation)
    for subscriber, own in sorted(subscribers.items()):
        if not any(_removes(operation, "unsubscribe") for operation in own):
            check_positions(subscriber, own, log, restarts, findings)


def _by_topic(
    operations: Iterable[Operation], sent: Iterable[Write]
) -> dict[str, tuple[list[Operation], list[Write]]]:
    topics: dict[str, tuple[list[Operation], list[Write]]] = defaultdict(lambda: ([], []))
    for operation in operations:
        topics[operation.topic][0].append(operation)
    for write in sent:
        topics[write.topic][1].append(write)
    return topics


def _removes(operation: Operation, kind: str) -> bool:
    return operation.kind == kind and operation.outcome != "fail"
