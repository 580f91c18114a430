"""How the kitchen alone may go back to a time."""

RIGHT = [
    """def go_back(opening):
    kitchen.seek(opening.published_at)""",
    "go_back = lambda opening: kitchen.seek(opening.published_at)",
    """def go_back(opening):
    return QSubscriber("orders", "kitchen").seek(opening.published_at)""",
    """def go_back(opening):
    lab.sql("select queue.seek('orders', 'kitchen', p_timestamp => %s)", opening.published_at)""",
]

WRONG = [
    "def go_back(opening): kitchen.seek(13)",
    "def go_back(opening): kitchen.seek(12)",
    'def go_back(opening): pub.reset_topic("orders", opening.published_at)',
    "def go_back(opening): billing.seek(opening.published_at)",
    "def go_back(opening): kitchen.seek(opening.offset)",
    'def go_back(opening): kitchen.seek("earliest")',
    "def go_back(opening): kitchen.seek(opening.published_at, dry_run=True)",
    "def go_back(opening): return opening.published_at",
]
