#!/usr/bin/env bash
# A good guess: `assert consumer.committed([p]) == [TopicPartition("orders", 0, 42)]` checks the offset, sorted() puts
#   the lower offset first, and a set keeps two offsets of one partition apart.
# What happens: ==, < and hash() look at topic and partition alone. The assertion passes with any offset, also with
#   OFFSET_INVALID; list.index, `in`, sets and dict keys treat all offsets of a partition as one. A test of
#   committed positions written this way can never fail. Compare .offset yourself.
# Seen with confluent-kafka 2.16.1. (kafka-python 3.0.12 keeps offsets in OffsetAndMetadata, compared in full.)
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq confluent-kafka==2.16.1 kafka-python==3.0.12
"$tmp/venv/bin/python" - <<'PY'
import confluent_kafka, inspect
from confluent_kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

print("confluent-kafka", confluent_kafka.__version__)
five, nine = TopicPartition("orders", 0, 5), TopicPartition("orders", 0, 9)
print(five, "==", nine, "is", five == nine, "and != is", five != nine)
assert five == nine and not five != nine and [five] == [nine]
assert five == TopicPartition("orders", 0, confluent_kafka.OFFSET_INVALID)
assert five != TopicPartition("orders", 1, 5)
print("a set of both has", len({five, nine}), "member; sorted([9, 5]) gives", [p.offset for p in sorted([nine, five])])
assert len({five, nine}) == 1 and [p.offset for p in sorted([nine, five])] == [9, 5]
assert not five < nine and five <= nine and nine in [five]
assert "compar" not in TopicPartition.__doc__ and "equal" not in TopicPartition.__doc__
count = len(inspect.signature(OffsetAndMetadata).parameters)
assert OffsetAndMetadata(5, *[""] * (count - 1)) != OffsetAndMetadata(9, *[""] * (count - 1))
PY
