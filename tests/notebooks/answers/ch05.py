"""How the kitchen's row is moved."""

RIGHT = [
    '''CURSOR = """update queue.cursor set "offset" = i where subscriber = 'kitchen'"""''',
    """CURSOR = 'update queue.cursor set "offset" = i where subscriber = $q$kitchen$q$;'""",
    '''CURSOR = """
update queue.cursor as c
set "offset" = greatest(c."offset", i)
where c.subscriber = 'kitchen'
"""''',
    '''CURSOR = """insert into queue.cursor values ('kitchen', i)
on conflict (subscriber) do update set "offset" = excluded."offset" """''',
]

WRONG = [
    """CURSOR = 'update queue.cursor set "offset" = i'""",
    '''CURSOR = """update queue.cursor set "offset" = 9"""''',
    '''CURSOR = """update queue.cursor set "offset" = "offset" + 1 where subscriber = 'kitchen'"""''',
    '''CURSOR = """update queue.cursor set "offset" = i + 1 where subscriber = 'kitchen'"""''',
    '''CURSOR = """update queue.cursor set "offset" = i where subscriber = 'billing'"""''',
    '''CURSOR = """update queue.cursor set "offset" = i where subscriber = 'Kitchen'"""''',
    '''CURSOR = """update queue.cursor set "offset" = i where "offset" = i"""''',
    '''CURSOR = """insert into queue.cursor values ('kitchen', i) on conflict do nothing"""''',
    '''CURSOR = """delete from queue.cursor where subscriber = 'kitchen'"""''',
    '''CURSOR = """perform i"""''',
]
