#!/bin/bash
# The logins of the server and of the lab, each with a new password that only its own volume holds, and the tokens of
# their pages. Postgres' entrypoint runs this on an empty volume. Run again, it makes new passwords and tokens; then
# restart the server and the lab.
set -euo pipefail
umask 077

secret() { printf '%s' "$(cat /proc/sys/kernel/random/uuid)"; }

sql() { psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 -U postgres -d queue "$@"; }

login() { # as a member of queue_owner: the server may apply init/, the lab may look at everything and change it
    local password
    password=$(secret)
    PASSWORD=$password sql -v login="$1" <<'SQL'
\getenv password PASSWORD
select format('create role %I', :'login') where to_regrole(:'login') is null \gexec
alter role :"login" login password :'password';
grant queue_owner to :"login";
SQL
    printf '%s' "db:5432:*:$1:$password" >"/secrets/$1/pgpass"
}

login server
login lab
sql <<'SQL'
alter role lab createdb;                          -- lab.strategy tries things out in a database of its own,
grant pg_signal_backend to lab;                   -- where autovacuum may be at work when it is dropped
grant set on parameter deadlock_timeout to lab;   -- lab.session sees deadlocks sooner
create schema if not exists authorization lab;    -- for the tables that a chapter makes
SQL

secret >/secrets/server/queue_token
cp /secrets/server/queue_token /secrets/lab/queue_token
secret >/secrets/lab/jupyter_token
