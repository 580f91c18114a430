#!/usr/bin/env bash
# A good guess: Cache.push(value, prefix="orders") and Cache.pull(prefix="orders") are a queue of that name, apart from
#   the one named "orders-eu". (The documentation shows one queue a prefix; keys are "prefix-integer".)
# What happens: a queue is the range of keys from orders-000000000000000 to orders-999999999999999 in the order of text,
#   and "orders-5-500000000000000" lies in it. So a consumer of "orders" takes the messages of "orders-5" or "orders-2026",
#   first ones first, and they are gone for their own consumer. With a letter after the dash nothing is mixed up.
# Seen with diskcache 5.6.3.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq diskcache==5.6.3
DIRECTORY="$tmp/cache" "$tmp/venv/bin/python" - <<'PY'
import os
import diskcache

print("diskcache", diskcache.__version__)
with diskcache.Cache(os.environ["DIRECTORY"]) as cache:
    def take(prefix):
        values = []
        while (item := cache.pull(prefix=prefix))[0] is not None:
            values.append(item[1])
        return values

    for prefix in ("orders-2026", "orders-eu", "orders"):
        for n in (1, 2):
            cache.push(f"{prefix} #{n}", prefix=prefix)
    print("the head of 'orders' is", cache.peek(prefix="orders"))
    taken = {prefix: take(prefix) for prefix in ("orders", "orders-2026", "orders-eu")}
    for prefix, values in taken.items():
        print(f"{prefix:11} gave {values}")
    assert taken["orders"] == ["orders-2026 #1", "orders-2026 #2", "orders #1", "orders #2"]
    assert taken["orders-2026"] == []
    assert taken["orders-eu"] == ["orders-eu #1", "orders-eu #2"]
PY
