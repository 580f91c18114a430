#!/usr/bin/env bash
# A good guess: poll() returns a Message or None, so `if not msg: continue` skips the waits, and
#   `while msg := consumer.poll(1)` reads until nothing comes; a message is true as any object is, as in kafka-python.
# What happens: len(msg) is the size of the value, so a message with an empty value, or with none (a tombstone, which deletes
#   a key), is false. The first loop never sees a deletion, and the commit of a later message goes past it; the
#   second ends at it, with the topic half read. filter(None, consumer.consume(5)) drops it too. Tests whose messages all
#   have a value pass. Compare with None.
# Seen with confluent-kafka 2.16.1, whose mock cluster is the broker here; kafka-python 3.0.12 beside it.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq confluent-kafka==2.16.1 kafka-python==3.0.12
"$tmp/venv/bin/python" - <<'PY'
import time
import confluent_kafka, kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

print("confluent-kafka", confluent_kafka.__version__, "kafka-python", kafka.__version__)
producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 3})
brokers = ",".join(f"{b.host}:{b.port}" for b in producer.list_topics(timeout=20).brokers.values())
VALUES = [b"1 new", b"2 new", None, b"", b"3 new"]
for value in VALUES:
    producer.produce("customers", value, key=b"c-1", partition=0)
assert producer.flush(20) == 0

def consumer():
    made = Consumer({"bootstrap.servers": brokers, "group.id": "g", "enable.auto.commit": False})
    made.assign([TopicPartition("customers", 0, 0)])
    return made

reader, read, end = consumer(), [], time.monotonic() + 20
while len(read) < len(VALUES) and time.monotonic() < end:
    if (message := reader.poll(0.5)) is not None:
        read.append(message)
reader.close()
for message in read:
    print(f"offset {message.offset()} value {message.value()} error {message.error()}: bool() is {bool(message)}")
assert [m.value() for m in read] == VALUES and not any(m.error() for m in read)
assert [bool(m) for m in read] == [True, True, False, False, True]

def skip_waits(reader):
    values, end = [], time.monotonic() + 20
    while b"3 new" not in values and time.monotonic() < end:
        msg = reader.poll(0.5)
        if not msg:
            continue
        values.append(msg.value())
        committed = reader.commit(message=msg, asynchronous=False)[0].offset
    return values, committed

def until_nothing(reader):
    values = []
    while msg := reader.poll(10):
        values.append(msg.value())
    return values

for loop, expected in ((skip_waits, ([b"1 new", b"2 new", b"3 new"], 5)), (until_nothing, [b"1 new", b"2 new"])):
    reader = consumer()
    got = loop(reader)
    reader.close()
    print(loop.__name__, got)
    assert got == expected

reader = consumer()
batch = reader.consume(len(VALUES), timeout=20)
reader.close()
print("consume() returns", len(batch), "messages, filter(None, batch) keeps", len(list(filter(None, batch))))
assert len(batch) == 5 and len(list(filter(None, batch))) == 3

tombstone = ConsumerRecord(**(dict.fromkeys(ConsumerRecord._fields) | {"topic": "customers", "key": b"c-1"}))
print("kafka-python, without a value:", bool(tombstone))
assert tombstone.value is None and tombstone
PY
