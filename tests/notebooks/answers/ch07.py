"""One turn of a worker, by hand."""

RIGHT = [
    """def turn(cook, handle):
    lease = cook.lease()
    for order in lease:
        try:
            handle(order)
        except Exception as error:
            lease.nack(error=error)
        else:
            lease.ack()
    return bool(lease)""",
    """from contextlib import suppress
def turn(cook, handle):
    with suppress(ValueError), cook.lease() as lease:  # which gives back what an error leaves
        for order in lease:
            handle(order)
            lease.ack(order)
    return len(lease) > 0""",
    """def turn(cook, handle):
    lease = cook.lease(1, seconds=60)
    if not lease:
        return False
    try:
        handle(lease[0])
        lease.ack(lease[0])
    except ValueError as error:
        lease.nack([lease[0].offset], delay=0, error=f"it said: {error}")
    return True""",
    """def turn(cook, handle):
    taken = cook.lease(limit=1)
    error = None
    for order in taken:
        try:
            handle(order)
        except BaseException as raised:
            error = str(raised)
        if error is None:
            taken.ack([order])
        else:
            taken.nack([order], error=error)
    return taken.id is not None""",
]


def worker(
    good: str = "lease.ack()", bad: str = "lease.nack(error=error)", tail: str = "bool(lease)"
) -> str:
    """Return the first right one, with something else in it."""
    right = RIGHT[0].replace("lease.ack()", good).replace("lease.nack(error=error)", bad)
    return right.replace("return bool(lease)", f"return {tail}")


WRONG = [
    worker(good="pass"),
    worker(bad="pass"),
    worker(bad="lease.ack()"),
    worker(bad="lease.nack()"),
    worker(bad="lease.nack(error='it did not work')"),
    worker(bad="lease.nack(error=error, untried=True)"),
    worker(bad="lease.nack(delay=60, error=error)"),
    worker(bad="lease.nack(error=error); raise"),
    worker(bad="lease.nack(error=error); return False"),
    worker(bad="pass; lease.ack()", good="pass"),
    worker(tail="None"),
    worker(tail="True"),
    RIGHT[0].replace("cook.lease()", "cook.lease(10)"),
    RIGHT[0].replace("cook.lease()", "cook.fetch(1)").replace("lease.ack()", "cook.ack(order)"),
    RIGHT[0].replace("for order", "lease.ack()\n    for order"),
    """def turn(cook, handle):
    lease = cook.lease()
    for order in lease:
        handle(order)
        lease.ack()
    return bool(lease)""",
    """def turn(cook, handle):
    lease = cook.lease()
    for order in lease:
        try:
            handle(order)
        finally:
            lease.ack()
    return bool(lease)""",
    """def turn(cook, handle):
    cook.work(handle, limit=1, wait=0)
    return False""",
]
