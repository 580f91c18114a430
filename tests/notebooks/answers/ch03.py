"""The lag alarm."""

RIGHT = [
    '''ALARM = """select subscriber from queue.subscribers
           where topic = 'orders' and (lag > 100 or lag_seconds > 600) order by 1"""''',
    '''ALARM = """select subscriber, lag from queue.subscribers where topic = 'orders'
           and lag > 100 union select subscriber, lag from queue.subscribers
           where topic = 'orders' and lag_seconds > 10 * 60 order by subscriber"""''',
    '''ALARM = """with late as (select * from queue.subscribers where topic in ('orders'))
           select s.subscriber from late s where s.lag >= 101
           or make_interval(secs => s.lag_seconds) > '10 minutes' order by s.subscriber"""''',
]


def alarm(where: str, order: str = "order by 1") -> str:
    return f'ALARM = """select subscriber from queue.subscribers where {where} {order}"""'


WRONG = [
    alarm("topic = 'orders' and lag > 100 or lag_seconds > 600"),
    alarm("lag > 100 or lag_seconds > 600"),
    alarm("topic = 'orders' and lag > 100"),
    alarm("topic = 'orders' and lag >= 100"),
    alarm("topic = 'orders' and lag_seconds > 600"),
    alarm("topic = 'orders' and (lag > 100 and lag_seconds > 600)"),
    alarm("topic = 'orders' and (lag > 100 or lag_seconds > 10)", ""),
    alarm("topic = 'orders' and (lag > 100 or lag_seconds > 500)"),
    alarm("topic = 'orders' and (lag > 100 or lag_seconds > 3000)"),
    alarm("topic = 'orders' and (lag > 100 or lag_seconds > 600)", ""),
    alarm("topic = 'orders' and (lag > 100 or lag_seconds > 600)", "order by lag desc"),
    alarm("topic = 'orders'"),
]
