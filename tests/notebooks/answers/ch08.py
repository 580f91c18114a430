"""A worker of billing's with one row in the place of an inbox."""

HEAD = """def frugal(queue, bank):
    for order in queue.run(FETCH, "orders", "billing"):
"""
MINE = """'update upto set "offset" = %s where "offset" < %s returning true', order.offset, order.offset"""
DONE = """queue.run(ACK, "orders", "billing", order.offset, order.epoch)"""
PAY = """bank.run(CHARGE, order.payload["guest"])"""


def loop(*lines: str) -> str:
    """Return a worker that does this for each order."""
    return HEAD + "\n".join(" " * 8 + line for line in lines)


RIGHT = [
    loop(f"if bank.run({MINE}):", f"    {PAY}", "bank.commit()", DONE, "queue.commit()"),
    # looked up first
    """def frugal(queue, bank):
    (had,) = bank.run('select "offset" from upto')
    for order in queue.run(FETCH, "orders", "billing"):
        if order.offset > had.offset:
            bank.run("insert into charges values (%s)", order.payload["guest"])
            bank.run('update upto set "offset" = %s', order.offset)
            bank.commit()
        queue.run(ACK, "orders", "billing", order.offset, order.epoch)
        queue.commit()""",
    # one commit of the bank's and one ack for all
    """def frugal(queue, bank):
    orders = queue.run(FETCH, "orders", "billing")
    if not orders:
        return
    had = bank.run('select max("offset") from upto')[0].max
    for order in orders:
        if order.offset > had:
            bank.run(CHARGE, order.payload["guest"])
    bank.run('update upto set "offset" = greatest("offset", %s)', orders[-1].offset)
    bank.commit()
    queue.run(ACK, "orders", "billing", orders[-1].offset, orders[-1].epoch)
    queue.commit()""",
    # in one statement, which it commits
    loop(
        '''bank.run("""with new as (update upto set "offset" = %s where "offset" < %s returning true)''',
        '''            insert into charges select %s from new; commit""",''',
        """         order.offset, order.offset, order.payload["guest"])""",
        DONE,
        "queue.commit()",
    ),
    # a new row in the place of the old one
    loop(
        """if bank.run('delete from upto where "offset" < %s returning true', order.offset):""",
        '    bank.run("insert into upto values (%s)", order.offset)',
        f"    {PAY}",
        "bank.commit()",
        DONE,
        "queue.commit()",
    ),
]

WRONG = [
    # noted, and then charged
    loop(
        f"if bank.run({MINE}):",
        *("    bank.commit()", f"    {PAY}", "bank.commit()", DONE, "queue.commit()"),
    ),
    # charged, and then noted
    """def frugal(queue, bank):
    (had,) = bank.run('select "offset" from upto')
    for order in queue.run(FETCH, "orders", "billing"):
        if order.offset > had.offset:
            bank.run(CHARGE, order.payload["guest"])
            bank.commit()
            bank.run('update upto set "offset" = %s', order.offset)
            bank.commit()
        queue.run(ACK, "orders", "billing", order.offset, order.epoch)
        queue.commit()""",
    # charged in any case
    loop(f"bank.run({MINE})", PAY, "bank.commit()", DONE, "queue.commit()"),
    # what it has had counts as new
    loop(
        f"if bank.run({MINE.replace('<', '<=')}):",
        *(f"    {PAY}", "bank.commit()", DONE, "queue.commit()"),
    ),
    # the ack first
    loop(DONE, "queue.commit()", f"if bank.run({MINE}):", f"    {PAY}", "bank.commit()"),
    # the bank's commit last
    loop(f"if bank.run({MINE}):", f"    {PAY}", DONE, "queue.commit()", "bank.commit()"),
    # no commit of the ack's
    loop(f"if bank.run({MINE}):", f"    {PAY}", "bank.commit()", DONE),
    # only what is new is acknowledged
    loop(
        f"if bank.run({MINE}):",
        *(f"    {PAY}", "    bank.commit()", f"    {DONE}", "    queue.commit()"),
    ),
    # with the inbox after all
    loop(
        'if bank.run(SIGN, "orders", order.offset):',
        *(f"    {PAY}", "bank.commit()", DONE, "queue.commit()"),
    ),
    "frugal = at_least_once",
    # in the queue's transaction, where no bank is
    """def frugal(queue, bank):
    for order in queue.run(FETCH, "orders", "billing"):
        queue.run(CHARGE, order.payload["guest"])
        queue.run(ACK, "orders", "billing", order.offset, order.epoch)
        queue.commit()""",
    # never committed by the bank
    loop(f"if bank.run({MINE}):", f"    {PAY}", DONE, "queue.commit()"),
    # a row for each order
    loop(
        "had = bank.run('select from upto where \"offset\" >= %s', order.offset)",
        "if not had:",
        '    bank.run("insert into upto values (%s)", order.offset)',
        f"    {PAY}",
        *("bank.commit()", DONE, "queue.commit()"),
    ),
    # noted with the queue, which may lie beside the bank's: the commit is another
    loop(
        f"if queue.run({MINE}):",
        *(f"    {PAY}", "    bank.commit()", DONE, "queue.commit()"),
    ),
    # remembered by the program, which dies
    """had = set()
def frugal(queue, bank):
    for order in queue.run(FETCH, "orders", "billing"):
        if order.offset not in had:
            bank.run(CHARGE, order.payload["guest"])
            bank.commit()
            had.add(order.offset)
        queue.run(ACK, "orders", "billing", order.offset, order.epoch)
        queue.commit()""",
]
