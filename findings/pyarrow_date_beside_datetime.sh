#!/usr/bin/env bash
# A good guess: pyarrow refuses a column that holds a date and a datetime, or datetimes with and without a zone, as it does
#   for a string beside a number, or true beside 1; or it makes timestamps of both. So df.to_parquet() loses nothing.
# What happens: the first value decides. With a date first the column is date32, and the time of day of all that follow is
#   dropped, without a word: 23:59 becomes 00:00. With the datetime first it raises. With a zone first, a time without
#   one is taken for UTC and shown in that zone, two hours later in +02:00; without one first, the zone goes. YAML and TOML
#   files give such a mix: `at: 2026-01-02` is a date, `at: 2026-01-02T23:59:00` is not.
# Seen with pyarrow 26.0.1, pandas 3.1.1, PyYAML 6.0.4.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq pyarrow==26.0.1 pandas==3.1.1 PyYAML==6.0.4
cd "$tmp"
venv/bin/python - <<'PY'
import importlib.metadata
from datetime import date, datetime, timedelta, timezone
import pandas, pyarrow as pa, yaml

print({name: importlib.metadata.version(name) for name in ("pyarrow", "pandas", "PyYAML")})
day, moment = date(2026, 1, 2), datetime(2026, 1, 2, 23, 59)
noon, zone = datetime(2026, 1, 2, 12), timezone(timedelta(hours=2))

def array(*values):
    try:
        made = pa.array(values)
    except pa.ArrowException as error:
        return type(error).__name__
    return str(made.type), made.to_pylist()

def show(what, got):
    print(f"{what:32} {got}")
    return got

assert show("a string beside a number", array(1, "1")) == "ArrowInvalid"
assert show("date, then datetime", array(day, moment)) == ("date32[day]", [day, day])
assert show("the same 1000 times", array(day, *[moment] * 1000)[0]) == "date32[day]"
assert show("datetime, then date", array(moment, day)) == "ArrowTypeError"
assert show("+02:00, then no zone", array(noon.replace(tzinfo=zone), noon)) == (
    "timestamp[us, tz=+02:00]", [noon.replace(tzinfo=zone), noon.replace(hour=14, tzinfo=zone)])
assert show("no zone, then +02:00", array(noon, noon.replace(tzinfo=zone))) == ("timestamp[us]", [noon, noon.replace(hour=10)])

orders = yaml.safe_load("[{id: 1, at: 2026-01-02}, {id: 2, at: 2026-01-02T23:59:00}]")
assert [order["at"] for order in orders] == [day, moment]
assert show("Table.from_pylist", pa.Table.from_pylist(orders)["at"].to_pylist()) == [day, day]
frame = pandas.DataFrame(orders)
assert show("the DataFrame", frame["at"].tolist()) == [day, moment]
frame.to_parquet("orders.parquet")
assert show("to_parquet, read_parquet", pandas.read_parquet("orders.parquet")["at"].tolist()) == [day, day]
PY
