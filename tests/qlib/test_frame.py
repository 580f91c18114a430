"""A batch as a table of pandas."""

import subprocess
import sys
from datetime import datetime
from typing import Any

import pandas as pd

from qlib import Batch
from tests.qlib.hostile import made, message

COLUMNS = ["offset", "published_at", "key", "headers", "payload"]


def batch(*messages: dict[str, Any]) -> Batch:
    return made(Batch, {"topic": "orders", "head": 9, "messages": messages})


def test_each_value_is_what_the_message_holds() -> None:
    payloads: list[Any] = [{"dish": "soup"}, 2**62 + 1, None, 0.5, [1], "x"]
    messages = [message(n, payload) for n, payload in enumerate(payloads, 1)]
    messages[1] |= {"key": "c-42", "headers": {"a": 1}}
    read = batch(*messages)
    frame = read.to_frame()
    assert list(frame.columns) == COLUMNS
    assert frame["offset"].tolist() == [1, 2, 3, 4, 5, 6] and frame["offset"].dtype == "int64"
    for name in ("key", "headers", "payload"):
        assert frame[name].tolist() == [getattr(m, name) for m in read]
        assert [type(value) for value in frame[name]] == [type(getattr(m, name)) for m in read]
    assert [moment.to_pydatetime() for moment in frame["published_at"]] == [
        m.published_at for m in read
    ]


def test_the_way_to_columns_that_it_names() -> None:
    frame = batch(message(1, {"id": 1, "at": {"x": 2}}), message(2, {"id": 3})).to_frame()
    wide = pd.json_normalize(frame["payload"])
    assert list(wide.columns) == ["id", "at.x"] and wide["id"].tolist() == [1, 3]


def test_an_empty_batch_has_the_same_columns() -> None:
    frame, full = batch().to_frame(), batch(message(1)).to_frame()
    assert frame.empty and list(frame.columns) == COLUMNS
    assert frame["offset"].dtype == full["offset"].dtype
    assert isinstance(frame["published_at"].dtype, pd.DatetimeTZDtype)


def test_microseconds_are_kept() -> None:
    moment = "2026-01-02T03:04:05.000001Z"
    (found,) = batch(message(1) | {"published_at": moment}).to_frame()["published_at"]
    assert found == datetime.fromisoformat(moment)


def test_pandas_is_asked_for_only_then() -> None:
    script = """
import sys
sys.modules["pandas"] = None  # as if it were not installed
from qlib import Batch
batch = Batch.from_json(b'{"topic": "orders", "head": 0, "messages": []}')
batch._repr_html_()
batch.to_frame()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "ModuleNotFoundError" in done.stderr and "in to_frame" in done.stderr
