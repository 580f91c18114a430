#!/usr/bin/env bash
# A good guess: a Python float is a C double, AMQP 0-9-1 tables have a double, so a header {"sent_at": time.time()}
#   arrives as it was sent; between three well-known Python clients at least to the microsecond.
# What happens: aio-pika (through pamqp) writes floats with 32 bits: a time of today is up to 64 s off for every reader,
#   and a score of 0.97 is 0.9700000286102295. py-amqp (Celery, kombu) writes all 64 bits. pika reads either kind as a
#   whole number: 0.97 arrives as 0, without an error; and it refuses to send any float itself.
# Seen with aio-pika 10.2.1, aiormq 7.2.4, pamqp 4.0.1, pika 1.4.4, amqp 5.4.2. No broker: it passes tables on as bytes.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq aio-pika==10.2.1 aiormq==7.2.4 pamqp==4.0.1 pika==1.4.4 amqp==5.4.2
"$tmp/venv/bin/python" - <<'PY'
import importlib.metadata
import aio_pika, pamqp.commands, pika
from amqp.basic_message import Message

print({name: importlib.metadata.version(name) for name in ("aio-pika", "pamqp", "pika", "amqp")})
headers = {"sent_at": 1767225663.25, "score": 0.97}

def read_aio_pika(data):
    properties = pamqp.commands.Basic.Properties()
    properties.unmarshal(int.from_bytes(data[:2], "big"), data[2:])
    return properties.headers

def read_pika(data):
    properties = pika.BasicProperties()
    properties.decode(data)
    return properties.headers

def read_py_amqp(data):
    message = Message()
    message._load_properties(message.CLASS_ID, data, 0)
    return message.headers

written = {
    "aio-pika": aio_pika.Message(b"", headers=headers).properties.marshal(),
    "py-amqp": Message(b"", application_headers=headers)._serialize_properties(),
}
got = {}
for writer, data in written.items():
    for reader, read in (("aio-pika", read_aio_pika), ("py-amqp", read_py_amqp), ("pika", read_pika)):
        got[writer, reader] = read(data)
        print(f"{writer:8} -> {reader:8} {got[writer, reader]}")
assert got["py-amqp", "py-amqp"] == got["py-amqp", "aio-pika"] == headers
for reader in ("aio-pika", "py-amqp"):
    assert got["aio-pika", reader]["sent_at"] == 1767225600.0 and got["aio-pika", reader]["score"] != 0.97
for writer in written:
    assert (got[writer, "pika"]["sent_at"], got[writer, "pika"]["score"]) in ((1767225663, 0), (1767225600, 0))
try:
    pika.BasicProperties(headers={"score": 0.97}).encode()
    raise SystemExit("pika sends floats")
except pika.exceptions.UnsupportedAMQPFieldException:
    print("pika sends no float")
PY
