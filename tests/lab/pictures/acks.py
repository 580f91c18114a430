"""An ack in SQL, as who has just fetched sends it."""


def acked(subscriber: str, offset: int) -> str:
    """Return the statement by which a subscriber of `orders` acknowledges an offset."""
    return (
        f"select queue.ack(topic, subscriber, {offset}, epoch) from queue.subscribers"
        f" where topic = 'orders' and subscriber = '{subscriber}'"
    )
