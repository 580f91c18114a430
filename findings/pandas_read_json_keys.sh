#!/usr/bin/env bash
# A good guess: JSON says what is a string, so pandas.read_json keeps the key "007" as text, and the keys "7", "007",
#   "7.0" and "7e0" apart.
# What happens: a column of strings that all look like numbers becomes numbers, whatever the JSON says: the four keys are
#   one key 7.0; "12_34" is 1234; a 17-digit id beside a missing one loses its last digit. It depends on the rows: one
#   key with a letter, and the whole column is text again. pandas.DataFrame(json.loads(...)) and dtype=False leave it alone.
# Seen with pandas 3.1.1 (2.3.3 does the same).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq pandas==3.1.1
"$tmp/venv/bin/python" - <<'PY'
import io, json
import pandas

print("pandas", pandas.__version__)

def keys(*values, **options):
    text = json.dumps([{"offset": n, "key": key} for n, key in enumerate(values, 1)])
    got = pandas.read_json(io.StringIO(text), **options)["key"].tolist()
    print(f"{json.dumps(values)} -> {got}")
    assert pandas.DataFrame(json.loads(text))["key"].dropna().tolist() == [v for v in values if v is not None]
    return got

assert keys("7", "007", "7.0", "7e0") == [7.0] * 4
assert keys("12_34", "1234") == [1234, 1234]
assert keys("90071992547409931", None)[0] == 90071992547409936
assert keys("7", "007", "c-7") == ["7", "007", "c-7"]
assert keys("7", "007", dtype=False) == ["7", "007"]
PY
