"""How the mailer may subscribe, so that its first fetch brings 3 and 4."""

RIGHT = [
    'mailer = QSubscriber("orders", "mailer", start=2)',
    "mailer = QSubscriber('orders', subscriber='mailer', start=pub.topic('orders').head - 2)",
    'mailer = QSubscriber("orders", "mailer", start=pub.browse("orders", 3)[0].published_at)',
    'mailer = QSubscriber("orders", "mailer"); mailer.seek(2)',
]

WRONG = [
    'mailer = QSubscriber("orders", "mailer", start=3)',
    'mailer = QSubscriber("orders", "mailer", start="earliest")',
    'mailer = QSubscriber("orders", "mailer")',
    'mailer = QSubscriber("orders", "mailer", start=1)',
    'mailer = QSubscriber("orders", "mailer", start=2).fetch()',
    'mailer = QSubscriber("orders", "postman", start=2)',
    'mailer = QSubscriber("orders", "mailer", start="earliest"); mailer.ack(mailer.fetch(2)[-1])',
    "mailer = kitchen",
    'mailer = QSubscriber("orders", "kitchen", start=2)',
    "mailer = 2",
    "mailer = None",
]
