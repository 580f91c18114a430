"""How a reader may move without leaving a dead row."""

RIGHT = [
    """move = "insert into public.mark values ('kitchen', 2, 7)\"""",
    '''move = """insert into public.mark (subscriber, move, position)
           select subscriber, max(move) + 1, 7 from public.mark
           where subscriber = 'kitchen' group by subscriber"""''',
    """move = "insert into public.mark values ('kitchen', 2, 7) on conflict do nothing returning move\"""",
    '''move = """with newest as (select * from public.mark where subscriber = 'kitchen'
           order by move desc limit 1)
           insert into public.mark select subscriber, move + 1, position + 2 from newest"""''',
]

WRONG = [
    "move = \"update public.mark set position = 7 where subscriber = 'kitchen'\"",
    'move = "update public.mark set position = 7"',
    "move = \"update public.mark set move = 2, position = 7 where subscriber = 'kitchen'\"",
    '''move = """insert into public.mark values ('kitchen', 1, 7)
           on conflict (subscriber, move) do update set position = excluded.position"""''',
    """move = "insert into public.mark values ('kitchen', 1, 7) on conflict do nothing\"""",
    '''move = """with gone as (delete from public.mark where subscriber = 'kitchen' returning move)
           insert into public.mark select 'kitchen', move + 1, 7 from gone"""''',
    '''move = """merge into public.mark using (values ('kitchen')) v (name) on subscriber = name
           when matched then update set position = 7"""''',
    """move = "insert into public.mark values ('kitchen', 2, 2)\"""",
    """move = "insert into public.mark values ('kitchen', 0, 7)\"""",
    """move = "insert into public.mark values ('billing', 2, 7)\"""",
    'move = "insert into public.mark select subscriber, 2, 7 from public.mark"',
    "move = \"select 7 from public.mark where subscriber = 'kitchen'\"",
]
