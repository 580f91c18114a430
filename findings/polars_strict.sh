#!/usr/bin/env bash
# A good guess: pl.DataFrame(messages) of JSON-like dicts either keeps every value or raises, since strict=True is the
#   default and is documented to raise for any value that does not fit the type, also where that is inferred.
# What happens: types and columns come from the first 100 dicts. After those a float is cut to an int (0.9 -> 0), a
#   number becomes a bool (7 -> False), text in place of a dict becomes null, and a key that was not there
#   before is dropped, all without a word, and equally with strict=True said aloud. The same values column-wise raise.
#   read_ndjson drops the late key too, where read_json of the same rows raises.
# Seen with polars 2.1.0.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq polars==2.1.0
"$tmp/venv/bin/python" - <<'PY'
import json
import polars as pl

print("polars", pl.__version__)
assert "Throw an error if any `data` value" in pl.DataFrame.__doc__

def last(first, late, n):
    return pl.DataFrame([{"v": first}] * n + [{"v": late}], strict=True)["v"].to_list()[-1]

assert (last(1, 0.9, n=9), last(True, 7, n=9)) == (0.9, 7)  # seen early enough, nothing is lost
for first, late, got in ((1, 0.9, 0), (True, 7, False), ({"ms": 1}, "timeout", None)):
    value = last(first, late, n=100)
    print(f"100 x {first!r}, then {late!r}: the last is {value!r}")
    assert value == got and type(value) is type(got)
rows = [{"offset": n} for n in range(100)] + [{"offset": 100, "error": "lost"}]
print("a key that comes at row 101:", pl.DataFrame(rows).columns)
assert pl.DataFrame(rows).columns == ["offset"]
assert pl.DataFrame(rows[1:]).columns == ["offset", "error"]
latencies = [{"ms": 1}] * 100 + [{"ms": 99.9}] * 100
print("mean of 100 x 1 and 100 x 99.9:", pl.DataFrame(latencies)["ms"].mean())
assert pl.DataFrame(latencies)["ms"].mean() == 50.0
try:
    pl.DataFrame({"ms": [1] * 100 + [99.9] * 100})
    raise SystemExit("column-wise no longer raises")
except TypeError:
    print("the same as a column raises TypeError")
assert pl.read_ndjson("\n".join(map(json.dumps, rows)).encode()).columns == ["offset"]
try:
    pl.read_json(json.dumps(rows).encode())
    raise SystemExit("read_json no longer raises")
except pl.exceptions.ComputeError:
    print("read_ndjson drops the late key, read_json raises")
PY
