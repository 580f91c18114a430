-- Dead letters: messages that a subscriber has given up. They stay in a table, not in a topic, so that a redriven one comes
-- to this subscriber alone; each has a copy of its message, which the log may have removed.

-- queue.dead_letters: every dead letter, with its topic and subscriber; not those that are redriven and out.
create or replace view queue.dead_letters as
select t.name as topic,
       s.name as subscriber,
       d."offset",
       d.published_at,
       d.key,
       d.headers,
       d.payload,
       d.attempts,
       d.reason,
       d.error,
       d.worker,
       d.died_at,
       t.topic_id,
       s.subscriber_id
from queue.dead d
join queue.subscriber s using (subscriber_id)
join queue.topic t using (topic_id)
where d.redriven_epoch is null -- or it was redriven in an epoch that is over
   or d.redriven_epoch <> (select p.epoch from queue.position p
                           where p.subscriber_id = d.subscriber_id order by p.move desc limit 1);

comment on view queue.dead_letters is 'Every dead letter; not those that are redriven and out.';
comment on column queue.dead_letters.topic is 'The topic''s name.';
comment on column queue.dead_letters.subscriber is 'The name of the subscriber that has given it up.';
comment on column queue.dead_letters."offset" is 'The message''s place in its topic.';
comment on column queue.dead_letters.published_at is 'When it was published.';
comment on column queue.dead_letters.key is 'Its key, if any.';
comment on column queue.dead_letters.headers is 'Its headers, if any.';
comment on column queue.dead_letters.payload is 'The message itself.';
comment on column queue.dead_letters.attempts is 'After how many attempts it died.';
comment on column queue.dead_letters.reason is 'nacked or expired.';
comment on column queue.dead_letters.error is 'The last error that a worker gave.';
comment on column queue.dead_letters.worker is 'Who held it last.';
comment on column queue.dead_letters.died_at is 'When it died.';
comment on column queue.dead_letters.topic_id is 'Its topic''s number inside the database.';
comment on column queue.dead_letters.subscriber_id is 'The subscriber''s number inside the database.';

-- queue.list_dead: a subscriber's dead letters in the order of their offsets, a page at a time.
--   p_topic, p_subscriber  the topic's name and the subscriber's
--   p_after      the last offset of the page before; null for the first page
--   p_limit      how many at the most
--   p_max_bytes  how many bytes at the most, but at least one
-- Returns rows of queue.dead_letters. Raises QL001 topic_not_found, QL002 subscriber_not_found. Locks nothing.
create or replace function queue.list_dead(p_topic text, p_subscriber text, p_after bigint default null,
                                           p_limit integer default 100, p_max_bytes bigint default 8388608)
returns setof queue.dead_letters
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_id   bigint := (queue.get_subscriber(p_topic, p_subscriber)).subscriber_id;
    v_row  queue.dead_letters;
    v_left bigint := p_max_bytes;
    v_any  boolean := false;
begin
    for v_row in
        select * from queue.dead_letters d where d.subscriber_id = v_id and d."offset" > coalesce(p_after, 0)
        order by d."offset" limit p_limit
    loop
        v_left := v_left - octet_length(v_row.payload::text) - coalesce(octet_length(v_row.key), 0)
                  - coalesce(octet_length(v_row.headers::text), 0) - coalesce(octet_length(v_row.error), 0);
        exit when v_left < 0 and v_any;
        v_any := true;
        return next v_row;
    end loop;
end
$$;

-- queue.dead_json: what queue.list_dead returns, as the text that a server sends: JSON objects with commas between them.
--   as for queue.list_dead
-- Raises as queue.list_dead. Locks nothing.
create or replace function queue.dead_json(p_topic text, p_subscriber text, p_after bigint default null,
                                           p_limit integer default 100, p_max_bytes bigint default 8388608)
returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    return (
        select coalesce(string_agg(
            concat('{"offset":', d."offset", ',"published_at":' || to_json(queue.rfc3339(d.published_at))::text,
                   ',"key":' || to_json(d.key)::text, ',"headers":' || d.headers::text,
                   ',"payload":', coalesce(d.payload::text, 'null'), ',"attempts":', d.attempts, ',"reason":', to_json(d.reason),
                   ',"error":', coalesce(to_json(d.error)::text, 'null'), ',"worker":', coalesce(to_json(d.worker)::text, 'null'),
                   ',"died_at":', to_json(queue.rfc3339(d.died_at)), '}'), ',' order by d."offset"), '')
        from queue.list_dead(p_topic, p_subscriber, p_after, p_limit, p_max_bytes) d);
end
$$;

-- queue.check_limit: how many dead letters to redrive or remove at once: 10,000 at the most.
-- Raises QL009 invalid_request. Locks nothing.
create or replace function queue.check_limit(p_limit integer)
returns integer
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    if (p_limit >= 1) is not true then
        raise exception using errcode = 'QL009', message = 'a limit is 1 or more';
    end if;
    return least(p_limit, 10000);
end
$$;

-- queue.redrive: gives dead letters to the workers again: due at once, in offset order, their attempts counted anew.
--   p_topic, p_subscriber  the topic's name and the subscriber's: it comes to no other
--   p_offsets  which; null: the first ones
--   p_limit    how many at the most; more than 10,000 are as 10,000
-- Returns how many. One that is out is no dead letter, and is one again when it dies again, or when the subscriber is reset
--   or sought meanwhile. After a move back those that come again anyway are left alone. With order, it comes regardless of it.
-- Raises QL001 topic_not_found, QL002 subscriber_not_found, QL009 invalid_request; 40001 at REPEATABLE READ as queue.lease.
-- Takes lock 43 of the subscriber until the transaction ends.
create or replace function queue.redrive(p_topic text, p_subscriber text, p_offsets bigint[] default null,
                                         p_limit integer default 1000, out redriven bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_id    bigint := (queue.get_subscriber(p_topic, p_subscriber)).subscriber_id;
    v_limit integer := queue.check_limit(p_limit);
    v_at    record;
    v_set   int8multirange;
begin
    perform pg_advisory_xact_lock(43, queue.crew_key(v_id));
    v_at := queue.advance(v_id, 1000);
    with chosen as (
        select d."offset" from queue.dead d
        where d.subscriber_id = v_id and d.redriven_epoch is distinct from v_at.epoch
          and (d."offset" <= v_at."position" or d.epoch = v_at.epoch)
          and (p_offsets is null or d."offset" = any (p_offsets))
        order by d."offset" limit v_limit
    ), marked as (
        update queue.dead d set redriven_epoch = v_at.epoch
        from chosen c where d.subscriber_id = v_id and d."offset" = c."offset"
        returning d."offset"
    )
    select count(*), range_agg(int8range(m."offset", m."offset", '[]')) into redriven, v_set from marked m;
    if redriven > 0 then
        perform queue.put(v_id, v_at.epoch, v_at."position", 'v', 0, true, v_set, clock_timestamp(), clock_timestamp());
    end if;
end
$$;

-- queue.remove_dead: removes dead letters for good.
--   p_topic, p_subscriber, p_offsets, p_limit  as for queue.redrive
-- Returns how many. One that is redriven and out stays. Raises and locks as queue.redrive.
create or replace function queue.remove_dead(p_topic text, p_subscriber text, p_offsets bigint[] default null,
                                             p_limit integer default 1000, out removed bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_id    bigint := (queue.get_subscriber(p_topic, p_subscriber)).subscriber_id;
    v_limit integer := queue.check_limit(p_limit);
    v_epoch bigint;
begin
    perform pg_advisory_xact_lock(43, queue.crew_key(v_id));
    v_epoch := (queue.get_subscriber(p_topic, p_subscriber)).epoch;
    delete from queue.dead d
    where d.subscriber_id = v_id
      and d."offset" = any (array(select l."offset" from queue.dead l
                                  where l.subscriber_id = v_id and l.redriven_epoch is distinct from v_epoch
                                    and (p_offsets is null or l."offset" = any (p_offsets))
                                  order by l."offset" limit v_limit));
    get diagnostics removed = row_count;
end
$$;

comment on function queue.list_dead is 'A subscriber''s dead letters in the order of their offsets, a page at a time.';
comment on function queue.dead_json is 'What queue.list_dead returns, as the text that a server sends.';
comment on function queue.check_limit is 'How many dead letters to redrive or remove at once.';
comment on function queue.redrive is 'Gives dead letters to the workers again.';
comment on function queue.remove_dead is 'Removes dead letters for good.';
