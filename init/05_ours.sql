-- Whose schema is it? A schema "queue" that was there before us is somebody else's, and what follows would take it over.
-- A server runs this file first, whatever its rights, before it believes anything that the schema says; it changes nothing.
--
-- Ours is a schema with our table of topics in it, whoever owns it, and whether or not it has its comments: it may have
-- been restored from a dump, or applied by hand; or one that bears our comment, if that was cut short. And what bears a
-- name that we need has to be ours, too. What others keep in our schema beside that is theirs.
--
-- Raises QL090: it is not ours.

do $$
declare
    v_strange text;
begin
    if to_regnamespace('queue') is null then
        return;
    end if;
    -- names, and the columns that every version of ours has had
    with ours (name, kind, columns) as (values
        ('topic', 'r', '{topic_id,name,description,created_at,floor}'::text[]),
        ('message', 'r', '{topic_id,offset,published_at,key,headers,payload}'),
        ('subscriber', 'r', '{subscriber_id,topic_id,name,created_at}'),
        ('position', 'r', '{subscriber_id,move,offset,epoch,moved_at,cause}'),
        ('publication', 'r', '{topic_id,producer,sequence,first_offset,last_offset,published_at}'),
        ('installation', 'r', '{digest,installed_at}'),
        ('round', 'r', '{what,last,busy}'),
        ('crew', 'r', '{subscriber_id,max_attempts,backoff_seconds,backoff_cap_seconds,ordered}'),
        ('hold', 'r', '{subscriber_id,act,epoch,kind,attempt,offsets,held_at,due_at,frontier}'),
        ('settled', 'r', '{subscriber_id,epoch,counts,first,last,act,outcome}'),
        ('extension', 'r', '{subscriber_id,lease,n,expires_at}'),
        ('turn', 'r', '{subscriber_id,epoch,key_hash,offset,n,parked,attempt}'),
        ('dead', 'r', '{subscriber_id,offset,epoch,attempts,reason,error,worker,died_at,redriven_epoch}'),
        ('holds', 'v', '{topic,subscriber,kind,lease,worker,offsets,attempt,held_at,due_at}'),
        ('leases', 'v', '{topic,subscriber,lease,worker,offsets,attempt,leased_at,expires_at}'),
        ('dead_letters', 'v', '{topic,subscriber,offset,key,payload,attempts,reason,error,worker,died_at}'),
        ('topics', 'v', '{topic,description,created_at,floor,head,subscribers}'),
        ('messages', 'v', '{topic,offset,published_at,key,headers,payload}'),
        ('subscribers', 'v', '{topic,subscriber,position,epoch,head,lag}'))
    select pg_catalog.string_agg(format('queue.%s is not ours', o.name), ', ' order by o.name) into v_strange
    from ours o
    left join pg_catalog.pg_class c on c.relname = o.name and c.relnamespace = 'queue'::regnamespace
    where (c.relkind = o.kind::"char"
           and o.columns <@ array(select a.attname::text from pg_catalog.pg_attribute a
                                  where a.attrelid = c.oid and not a.attisdropped)) is not true
      and (c.oid is not null
           or o.name = 'topic' and (obj_description('queue'::regnamespace, 'pg_namespace') like 'A multi-subscriber queue:%')
                                   is not true);
    if v_strange is not null then
        raise exception using errcode = 'QL090', message = format(
            'the schema "queue" of database %I belongs to something else (%s): use another database, or rename that schema',
            pg_catalog.current_database(), v_strange);
    end if;
end
$$;
