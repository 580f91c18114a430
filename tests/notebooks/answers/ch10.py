"""How to publish by hand over a line that is cut."""

RIGHT = [
    """from itertools import count
ours = count(1)
def order(url, guest):
    number = next(ours)
    while True:
        try:
            body = {"payloads": [{"guest": guest}], "producer": "us", "sequence": number}
            return requests.post(url, json=body, timeout=30).json()["first_offset"]
        except requests.RequestException:
            continue""",
    """from uuid import uuid4
def order(url, guest, producer=None):
    producer = producer or uuid4().hex  # a name for each order
    body = {"payloads": [{"guest": guest}], "producer": producer, "sequence": 1}
    try:
        return requests.post(url, json=body).json()["first_offset"]
    except requests.ConnectionError:
        return order(url, guest, producer)""",
    """from requests.adapters import HTTPAdapter
from urllib3.util import Retry
orders_sent = []
def order(url, guest):
    orders_sent.append(guest)
    body = {"payloads": [{"guest": guest}], "producer": "mine", "sequence": len(orders_sent)}
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Retry(9, allowed_methods=None)))
        return session.post(url, json=body).json()["first_offset"]""",
    """import time
def order(url, guest):
    body = {"payloads": [{"guest": guest}], "producer": "clock", "sequence": time.time_ns()}
    answer = None
    for attempt in range(20):
        try:
            answer = requests.post(url, json=body)
            break
        except requests.ConnectionError as error:
            print("unknown, once more")
    return answer.json()["last_offset"]""",
]

WRONG = [
    # no number: what was cut off behind the queue is stored twice
    """def order(url, guest):
    while True:
        try:
            return requests.post(url, json={"payloads": [{"guest": guest}]}).json()["first_offset"]
        except requests.ConnectionError:
            pass""",
    # a number for each attempt
    """from itertools import count
ours = count(1)
def order(url, guest):
    while True:
        try:
            body = {"payloads": [{"guest": guest}], "producer": "us", "sequence": next(ours)}
            return requests.post(url, json=body).json()["first_offset"]
        except requests.ConnectionError:
            pass""",
    # a name for each attempt
    """from uuid import uuid4
def order(url, guest):
    while True:
        try:
            body = {"payloads": [{"guest": guest}], "producer": uuid4().hex, "sequence": 1}
            return requests.post(url, json=body).json()["first_offset"]
        except requests.ConnectionError:
            pass""",
    # one number for all orders
    """def order(url, guest):
    while True:
        try:
            body = {"payloads": [{"guest": guest}], "producer": "us", "sequence": 1}
            return requests.post(url, json=body).json()["first_offset"]
        except requests.ConnectionError:
            pass""",
    # the number is made of the guest, who may order the same again
    """def order(url, guest):
    while True:
        try:
            body = {"payloads": [{"guest": guest}], "producer": guest, "sequence": 1}
            return requests.post(url, json=body).json()["first_offset"]
        except requests.ConnectionError:
            pass""",
    # no second attempt
    """def order(url, guest):
    body = {"payloads": [{"guest": guest}], "producer": guest, "sequence": 1}
    return requests.post(url, json=body).json()["first_offset"]""",
    # only a second one
    """from uuid import uuid4
def order(url, guest):
    body = {"payloads": [{"guest": guest}], "producer": uuid4().hex, "sequence": 1}
    try:
        return requests.post(url, json=body).json()["first_offset"]
    except requests.ConnectionError:
        return requests.post(url, json=body).json()["first_offset"]""",
    # taken for a failure
    """from uuid import uuid4
def order(url, guest):
    body = {"payloads": [{"guest": guest}], "producer": uuid4().hex, "sequence": 1}
    try:
        return requests.post(url, json=body).json()["first_offset"]
    except requests.ConnectionError:
        return None""",
    # looks into the log, where somebody else's order may be
    """def order(url, guest):
    try:
        return requests.post(url, json={"payloads": [{"guest": guest}]}).json()["first_offset"]
    except requests.ConnectionError:
        return QPublisher().topic("orders").head""",
    # all is well, but the offset is kept secret
    """from uuid import uuid4
def order(url, guest):
    body = {"payloads": [{"guest": guest}], "producer": uuid4().hex, "sequence": 1}
    while True:
        try:
            return requests.post(url, json=body)
        except requests.ConnectionError:
            pass""",
]
