"""Publishes as one: a call of the SQL function costs ten times what a message in it does."""

from collections.abc import Iterator, Sequence
from itertools import chain

from server.engines import Batch, Published

_MOST = 10_000  # messages in a batch


def runs(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Part batches, in their order, into runs of those that may be stored as one: neighbours without a number."""
    parted: list[list[Batch]] = []
    room = 0
    for batch in batches:
        numbered = batch.producer is not None or batch.sequence is not None
        if numbered or batch.length > room:
            parted.append([])
            room = 0 if numbered else _MOST
        parted[-1].append(batch)
        room -= batch.length
    return parted


def joined(run: Sequence[Batch]) -> Batch:
    """Return a run as one batch."""
    if len(run) == 1:
        return run[0]
    keys = headers = None
    if any(one.keys for one in run):
        keys = list(chain.from_iterable(one.keys or [None] * one.length for one in run))
    if any(one.headers for one in run):
        headers = _array(one.headers or f"[{','.join(['null'] * one.length)}]" for one in run)
    return Batch(_array(one.payloads for one in run), sum(one.length for one in run), keys, headers)


def parted(run: Sequence[Batch], stored: Published) -> Iterator[Published]:
    """Yield where each batch of a run was stored."""
    first = stored.first_offset
    if len(run) == 1:
        yield stored
        return
    for one in run:
        yield Published(first, first + one.length - 1, False)
        first += one.length


def _array(arrays: Iterator[str]) -> str:
    return f"[{','.join(array[1:-1] for array in arrays)}]"
