"""The error tree: its drawing, its two branches, and what each answer of the server becomes."""

import inspect
import pickle

import pytest

import qlib
from qlib import errors
from qlib.errors import DefiniteError, IndefiniteError, QueueError, from_answer

# The server's codes (with the status each comes under) and the class each must become.
CODES = {
    "topic_not_found": (404, errors.TopicNotFound),
    "subscriber_not_found": (404, errors.SubscriberNotFound),
    "topic_exists": (409, errors.TopicExists),
    "offset_out_of_range": (409, errors.OffsetOutOfRange),
    "stale_epoch": (409, errors.StaleEpoch),
    "lease_expired": (409, errors.LeaseExpired),
    "key_order": (409, errors.KeyOrder),
    "leases_out": (409, errors.LeasesOut),
    "sequence_conflict": (409, errors.SequenceConflict),
    "message_too_large": (413, errors.MessageTooLarge),
    "body_too_large": (413, errors.MessageTooLarge),
    "invalid_request": (422, errors.InvalidRequest),
    "invalid_name": (422, errors.InvalidRequest),
    "invalid_message": (422, errors.InvalidRequest),
    "unauthorized": (401, errors.Unauthorized),
    "disk_full": (507, errors.Unavailable),
    "internal": (500, errors.OutcomeUnknown),
}
CLASSES = [
    cls
    for cls in vars(errors).values()
    if inspect.isclass(cls) and cls.__module__ == errors.__name__
]


def drawing(cls: type, indent: str = "") -> list[str]:
    """Return the lines of the tree below a class, as the module's docstring draws them."""
    children = sorted(cls.__subclasses__(), key=lambda child: child.__name__)
    lines = []
    for child in children:
        last = child is children[-1]
        lines.append(f"{indent}{'└' if last else '├'}── {child.__name__}")
        lines += drawing(child, indent + ("    " if last else "│   "))
    return lines


def test_tree_is_drawn_as_it_is():
    drawn = "\n".join(["QueueError", *drawing(QueueError)])
    assert f"\n\n{drawn}\n\n" in errors.__doc__
    assert drawn.count("\n") + 1 == len(CLASSES) == 20


def test_every_error_is_definite_or_indefinite_and_says_so_in_words():
    for cls in CLASSES:
        branches = {DefiniteError, IndefiniteError} & set(cls.__mro__)
        assert len(branches) == (0 if cls is QueueError else 1), cls
        assert cls.__doc__, cls
        message = cls.__doc__.splitlines()[0]
        assert str(cls()) == message
        assert str(cls("more")) == f"{message.rstrip('.')}: more"
        assert cls.__name__ in qlib.__all__


@pytest.mark.parametrize("code", CODES)
def test_each_code_becomes_its_class(code):
    status, expected = CODES[code]
    error = from_answer(status, {"code": code, "detail": "so", "request_id": "r1"}, 2.0)
    assert type(error) is expected
    facts = (error.status, error.code, error.detail, error.request_id, error.retry_after)
    assert facts == (status, code, "so", "r1", 2.0)


def test_the_table_holds_these_codes_and_no_others():
    assert set(errors._BY_CODE) | {"internal"} == set(CODES) | {"unavailable"}


@pytest.mark.parametrize(
    ("status", "problem", "expected"),
    [
        (503, {"outcome": "none"}, errors.Unavailable),
        (503, {"outcome": "none", "code": "disk_full"}, errors.Unavailable),
        (503, {"outcome": "unknown", "code": "unavailable"}, errors.OutcomeUnknown),
        (503, {}, errors.OutcomeUnknown),
        (507, {}, errors.Unavailable),
        (507, {"outcome": "unknown"}, errors.OutcomeUnknown),
        (500, {"outcome": "none"}, errors.OutcomeUnknown),
        (500, {"code": "topic_not_found"}, errors.OutcomeUnknown),
        (502, {}, errors.OutcomeUnknown),
        (302, {}, errors.OutcomeUnknown),
        (410, {"code": "offset_out_of_range"}, errors.OffsetOutOfRange),
        (401, {}, errors.Unauthorized),
        (413, {}, errors.MessageTooLarge),
        (429, {}, errors.Unavailable),
        (429, {"code": "slow_down"}, errors.Unavailable),
        (404, {}, errors.InvalidRequest),
        (418, {"code": "teapot"}, errors.InvalidRequest),
        (400, {"code": ["unhashable"], "detail": 7}, errors.InvalidRequest),
    ],
)
def test_answers_without_a_code_of_ours(status, problem, expected):
    assert type(from_answer(status, problem)) is expected


def test_out_of_range_tells_the_range():
    error = from_answer(410, {"code": "offset_out_of_range", "floor": 7, "head": 9})
    assert (error.floor, error.head) == (7, 9)
    error = from_answer(409, {"code": "offset_out_of_range", "floor": "7", "head": True})
    assert (error.floor, error.head) == (None, None)


def test_a_long_detail_is_cut():
    assert len(from_answer(400, {"detail": "x" * 100_000}).detail) == 500


def test_errors_travel_between_processes():
    error = from_answer(410, {"code": "offset_out_of_range", "floor": 7, "detail": "gone"})
    error.published = range(1, 4)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)
