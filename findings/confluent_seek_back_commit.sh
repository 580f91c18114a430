#!/usr/bin/env bash
# A good guess: after seek(0) and three messages, commit() and auto commit store 3: the position, as the Java client
#   does. A replay that is interrupted goes on where it stopped.
# What happens: of its own accord librdkafka commits nothing lower than what this consumer has committed before. While the
#   replay is behind that, commit(asynchronous=False) raises _NO_OFFSET, commit() returns as usual, and auto commit does
#   nothing: the group stays at 10. A consumer that dies at message 3 is followed by one that begins at 10, and the
#   rest of the replay is not done. commit(message=m) stores it; a clean close() with auto commit does so too.
# Seen with confluent-kafka 2.16.1 and its librdkafka, whose mock cluster is the broker here. The client decides it alone.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq confluent-kafka==2.16.1
"$tmp/venv/bin/python" - <<'PY'
import time
import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

print("confluent-kafka", confluent_kafka.__version__, "librdkafka", confluent_kafka.libversion()[0])
producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 3})
brokers = ",".join(f"{b.host}:{b.port}" for b in producer.list_topics(timeout=20).brokers.values())

def produce(topic, numbers):
    for n in numbers:
        producer.produce(topic, str(n), partition=0)
    assert producer.flush(20) == 0

def consumer(name, **options):
    """Of the group and the topic of that name."""
    made = Consumer({"bootstrap.servers": brokers, "group.id": name, "auto.offset.reset": "earliest", **options})
    made.assign([TopicPartition(name, 0)])
    return made

def read(reader, n):
    messages, end = [], time.monotonic() + 20
    while len(messages) < n and time.monotonic() < end:
        if (message := reader.poll(0.2)) is not None:
            messages.append(message)
    assert len(messages) == n and not any(m.error() for m in messages)
    return messages

def stored(name):
    other = Consumer({"bootstrap.servers": brokers, "group.id": name, "enable.auto.commit": False})
    try:
        return other.committed([TopicPartition(name, 0)], timeout=20)[0].offset
    finally:
        other.close()

def commit(reader, **options):
    try:
        return reader.commit(asynchronous=False, **options)[0].offset
    except KafkaException as error:
        return error.args[0].name()

for name, options in (("manual", {"enable.auto.commit": False}), ("auto", {"auto.commit.interval.ms": 200})):
    produce(name, range(10))
    first = consumer(name, **options)
    read(first, 10)
    if name == "manual":
        assert commit(first) == 10
    end = time.monotonic() + 20
    while stored(name) != 10:
        assert time.monotonic() < end
    first.seek(TopicPartition(name, 0, 0))
    replayed = read(first, 3)
    assert [m.offset() for m in replayed] == [0, 1, 2] and first.position([TopicPartition(name, 0)])[0].offset == 3
    time.sleep(1)  # five intervals of auto commit
    left, said = stored(name), commit(first)
    assert first.commit() is None
    time.sleep(0.5)
    print(f"{name}: read to 10, seek(0), read to 3: the group is at {left}; commit() says {said}; then it is at {stored(name)}")
    assert left == 10 and said == "_NO_OFFSET" and stored(name) == 10
    if name == "manual":
        produce(name, [10])
        second = consumer(name, **options)  # what a restart would do
        begins = read(second, 1)[0].offset()
        second.close()
        print(f"{name}: a second consumer of the group begins at {begins};",
              "commit(message=) says", commit(first, message=replayed[2]))
        assert begins == 10 and stored(name) == 3
    first.close()
    print(f"{name}: after close() the group is at", stored(name))
    assert stored(name) == 3
PY
