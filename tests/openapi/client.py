"""Publishes and reads with the client that openapi-python-client has made. Run by checks.py."""

import sys

from queue_lab_client import AuthenticatedClient
from queue_lab_client.api.dead import list_dead, remove_dead
from queue_lab_client.api.leases import lease, nack
from queue_lab_client.api.messages import browse, publish
from queue_lab_client.api.service import health, metrics, openapi
from queue_lab_client.api.subscribers import ack, configure, fetch, seek, subscribe
from queue_lab_client.api.topics import create_topic, list_topics
from queue_lab_client.models import (
    Ack,
    Batch,
    DeadLetters,
    Error,
    Move,
    Nack,
    NewLease,
    NewSubscriber,
    NewTopic,
    Settings,
)
from queue_lab_client.models.batch_headers_type_0_item_type_0 import BatchHeadersType0ItemType0

URL, TOKEN, TOPIC = sys.argv[1:]

queue = AuthenticatedClient(base_url=URL, token=TOKEN, raise_on_unexpected_status=True)
create_topic.sync(client=queue, body=NewTopic(topic=TOPIC))
publish.sync(TOPIC, client=queue, body=Batch(payloads=[1]))
headers = BatchHeadersType0ItemType0.from_dict({"h": 1})
batch = Batch(payloads=[{"a": 2}, 3], keys=["k", None], headers=[headers, None])
print("published", publish.sync(TOPIC, client=queue, body=batch).first_offset)
for message in browse.sync(TOPIC, client=queue).messages:
    key, headers = message.key or "-", message.headers["h"] if message.headers else "-"
    print(message.offset, key, headers, message.payload, message.published_at.tzinfo is not None)
subscriber = subscribe.sync(TOPIC, client=queue, body=NewSubscriber(subscriber="s")).subscriber
seek.sync(TOPIC, subscriber, client=queue, body=Move(offset=1))
fetched = fetch.sync(TOPIC, subscriber, client=queue, limit=1)
done = Ack(offset=fetched.messages[0].offset, epoch=fetched.epoch)
print("position", ack.sync(TOPIC, subscriber, client=queue, body=done).position)
configure.sync(TOPIC, subscriber, client=queue, body=Settings(max_attempts=1))
leased = lease.sync(TOPIC, subscriber, client=queue, body=NewLease(worker="w"))
(message,) = leased.messages
print("leased", message.offset, message.attempt, leased.expires_at.tzinfo is not None)
buried = nack.sync(TOPIC, subscriber, leased.lease, client=queue, body=Nack(error="no")).dead
(letter,) = list_dead.sync(TOPIC, subscriber, client=queue).dead
print("dead", buried, letter.offset, letter.payload, letter.reason, letter.error)
print("removed", remove_dead.sync(TOPIC, subscriber, client=queue, body=DeadLetters()).removed)
refused = browse.sync("nowhere", client=queue)
print(refused.code if isinstance(refused, Error) else refused)
print(TOPIC in [topic.topic for topic in list_topics.sync(client=queue).topics])
print(health.sync(client=queue).status, "queue_requests_total" in metrics.sync(client=queue))
print(openapi.sync(client=queue)["openapi"])
