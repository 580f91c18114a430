-- Order by key: of the messages of one key, none is leased before the one before it is done or dead, unless in one lease
-- with it.
--
-- Each message with a key that the frontier passes gets a turn. If its key is busy then it is parked: no hold has it, it
-- blocks nobody, and it is never looked at again until the one before it is over; then it is passed on. Acks and nacks take
-- the messages of a key from the front of what a lease holds of it, so that when one is over all before it are.

-- queue.is_over: whether a message is done or dead.
--   p_id, p_epoch, p_position  the subscriber, and where it is
--   p_offset  the message
-- Locks nothing.
create or replace function queue.is_over(p_id bigint, p_epoch bigint, p_position bigint, p_offset bigint)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
begin
    return p_offset <= p_position or coalesce(
        (select s.last >= p_offset from queue.settled s
         where s.subscriber_id = p_id and s.epoch = p_epoch and s.counts and s.first <= p_offset
         order by s.first desc limit 1), false);
end
$$;

-- queue.keyed: the messages of a set that have a key. Written so that Postgres inlines it.
--   p_topic_id, p_offsets  the topic's number, and the set
-- Returns their offsets, keys and the keys' hashes, the turn of a message in the order of its key among them, in any order.
create or replace function queue.keyed(p_topic_id integer, p_offsets int8multirange)
returns table ("offset" bigint, key text, key_hash bigint, turn bigint)
language sql stable
as $$
    select m."offset", m.key, hashtextextended(m.key, 0), row_number() over (partition by m.key order by m."offset")
    from unnest(p_offsets) u
    cross join lateral (select l."offset", l.key from queue.message l
                        where l.topic_id = p_topic_id and l."offset" >= lower(u) and l."offset" < upper(u)
                          and l.key is not null offset 0) m
$$;

-- queue.followers: the messages of a set that follow another one of their key.
--   p_topic_id, p_offsets  the topic's number, and the set
--   p_after                only those that follow one of these; null: any
-- Locks nothing.
create or replace function queue.followers(p_topic_id integer, p_offsets int8multirange, p_after int8multirange default null)
returns int8multirange
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
set jit = off
as $$
begin
    return coalesce((
        select range_agg(int8range(k."offset", k."offset", '[]'))
        from (select m."offset", m.turn,
                     bool_or(p_after @> m."offset") over (partition by m.key order by m."offset"
                                                          rows between unbounded preceding and 1 preceding) as after
              from queue.keyed(p_topic_id, p_offsets) m) k
        where case when p_after is null then k.turn > 1 else k.after and not p_after @> k."offset" end), '{}');
end
$$;

-- queue.check_front: refuses to settle a message while a lease holds one before it in its key.
--   p_topic_id  the topic's number
--   p_rest      what the lease still holds
--   p_asked     what is to be settled
-- Raises QL011 key_order. Locks nothing.
create or replace function queue.check_front(p_topic_id integer, p_rest int8multirange, p_asked int8multirange)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    if not isempty(queue.followers(p_topic_id, p_rest, p_rest - p_asked)) then
        raise exception using errcode = 'QL011',
            message = 'the lease holds an earlier message of the same key, which has to be settled first';
    end if;
end
$$;

-- queue.pass_over: takes the next messages from the frontier on, those whose key is free, and parks the others.
--   p_id, p_topic_id, p_epoch, p_position  the subscriber, its topic, and where it is
--   p_first, p_last  the messages to look at
--   p_left           how many to take at the most
--   p_taken          what the same lease has taken already
-- Returns what it takes, and how far it looked. Lock 43 must be held.
create or replace function queue.pass_over(
    p_id bigint, p_topic_id integer, p_epoch bigint, p_position bigint, p_first bigint, p_last bigint, p_left bigint,
    p_taken int8multirange, out part int8multirange, out upto bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
begin
    with seen as materialized (
        select m."offset", hashtextextended(m.key, 0) as key_hash from queue.message m
        where m.topic_id = p_topic_id and m."offset" between p_first and p_last
    ), keys as materialized (
        select k.key_hash, t."offset" is null or p_taken @> t."offset"
                           or queue.is_over(p_id, p_epoch, p_position, t."offset") as free
        from (select s.key_hash from seen s where s.key_hash is not null group by 1) k
        left join lateral (select l."offset" from queue.turn l
                           where l.subscriber_id = p_id and l.epoch = p_epoch and l.key_hash = k.key_hash
                             and l."offset" < p_first order by l."offset" desc limit 1) t on true
    ), looked as (
        select s."offset", s.key_hash, coalesce(k.free, true) as free,
               count(*) filter (where coalesce(k.free, true)) over (order by s."offset") as n
        from seen s left join keys k using (key_hash)
    ), passed as materialized (
        select l.* from looked l where l.n < p_left or l.n = p_left and l.free
    ), turns as (
        insert into queue.turn (subscriber_id, epoch, key_hash, "offset", n, attempt, parked)
        select p_id, p_epoch, p.key_hash, p."offset", 0, 0, not p.free from passed p where p.key_hash is not null
    )
    select coalesce(range_agg(int8range(p."offset", p."offset", '[]')) filter (where p.free), '{}'), max(p."offset")
    into part, upto from passed p;
end
$$;

-- queue.take_turns: takes of a hold that is due those messages whose key is free, and parks the others.
--   p_id, p_topic_id, p_epoch, p_position  the subscriber, its topic, and where it is
--   p_offsets, p_attempt  what the hold has left, and how often that was leased
--   p_left, p_max_bytes  how many to take at the most; how many bytes, but at least one if nothing was taken; null: any
--   p_taken          what the same lease has taken already
-- Returns what it takes, as sets of messages that were leased equally often, how far it looked, and the bytes if they matter.
-- When a message is taken those that are parked behind it come along. Lock 43 must be held.
create or replace function queue.take_turns(
    p_id bigint, p_topic_id integer, p_epoch bigint, p_position bigint, p_offsets int8multirange, p_attempt integer,
    p_left bigint, p_max_bytes bigint, p_taken int8multirange,
    out attempts integer[], out parts int8multirange[], out upto bigint, out bytes bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
declare
    v_left    bigint := p_left;
    v_size    bigint;
    v_before  bigint;
    v_taken   int8multirange := p_taken;
    v_message record;
    v_turn    record;
begin
    bytes := 0;
    for v_message in
        select m."offset", hashtextextended(m.key, 0) as key_hash
        from unnest(p_offsets) u
        cross join lateral (select l."offset", l.key from queue.message l
                            where l.topic_id = p_topic_id and l."offset" >= lower(u) and l."offset" < upper(u) offset 0) m
        order by m."offset"
    loop
        exit when v_left <= 0;
        select t."offset" into v_before from queue.turn t
        where t.subscriber_id = p_id and t.epoch = p_epoch and t.key_hash = v_message.key_hash
          and t."offset" < v_message."offset"
        order by t."offset" desc limit 1;
        if v_before is not null and not v_taken @> v_before and not queue.is_over(p_id, p_epoch, p_position, v_before) then
            insert into queue.turn (subscriber_id, epoch, key_hash, "offset", n, attempt, parked)
            select p_id, p_epoch, t.key_hash, t."offset", t.n + 1, p_attempt, true from queue.turn t
            where t.subscriber_id = p_id and t.epoch = p_epoch and t.key_hash = v_message.key_hash
              and t."offset" = v_message."offset"
            order by t.n desc limit 1;
            upto := v_message."offset";
            continue;
        end if;
        -- itself, and who waits behind it
        for v_turn in
            select v_message."offset", p_attempt as attempt, false as parked, 0 as n
            union all
            (select t."offset", t.attempt, t.parked, t.n from queue.turn t
             where t.subscriber_id = p_id and t.epoch = p_epoch and t.key_hash = v_message.key_hash
               and t."offset" > v_message."offset"
               and not exists (select from queue.turn l where l.subscriber_id = p_id and l.epoch = p_epoch
                               and l.key_hash = t.key_hash and l."offset" = t."offset" and l.n = t.n + 1)
             order by t."offset", t.n)
        loop
            exit when v_turn."offset" > v_message."offset" and not v_turn.parked;
            if p_max_bytes is not null then
                v_size := (select octet_length(m.payload::text) + coalesce(octet_length(to_json(m.key)::text), 0)
                                  + coalesce(octet_length(m.headers::text), 0)
                           from queue.message m where m.topic_id = p_topic_id and m."offset" = v_turn."offset");
                if bytes + v_size > p_max_bytes and not isempty(v_taken) then
                    v_left := 0;
                end if;
            end if;
            exit when v_left <= 0;
            bytes := bytes + coalesce(v_size, 0);
            upto := v_message."offset";
            if v_turn.parked then
                insert into queue.turn (subscriber_id, epoch, key_hash, "offset", n, attempt, parked)
                values (p_id, p_epoch, v_message.key_hash, v_turn."offset", v_turn.n + 1, v_turn.attempt, false);
            end if;
            v_taken := v_taken + int8multirange(int8range(v_turn."offset", v_turn."offset", '[]'));
            attempts := attempts || v_turn.attempt;
            parts := parts || int8multirange(int8range(v_turn."offset", v_turn."offset", '[]'));
            v_left := v_left - 1;
        end loop;
    end loop;
end
$$;

-- queue.pass_on: after messages are over, makes the next one of each of their keys due, if it was parked.
--   p_id, p_topic_id, p_epoch, p_position  the subscriber, its topic, and where it is
--   p_offsets  the messages that are over
-- Makes a hold in any case, so that whoever looks with an older snapshot is found out. Lock 43 must be held.
create or replace function queue.pass_on(p_id bigint, p_topic_id integer, p_epoch bigint, p_position bigint,
                                         p_offsets int8multirange)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
set jit = off
as $$
declare
    v_key  record;
    v_turn record;
    v_made boolean := false;
    v_attempts integer[] := '{}';
    v_next     bigint[] := '{}';
begin
    for v_key in select k.key_hash, max(k."offset") as "offset" from queue.keyed(p_topic_id, p_offsets) k group by 1 loop
        for v_turn in
            select t."offset", t.n, t.attempt, t.parked from queue.turn t
            where t.subscriber_id = p_id and t.epoch = p_epoch and t.key_hash = v_key.key_hash and t."offset" > v_key."offset"
              and not exists (select from queue.turn l where l.subscriber_id = p_id and l.epoch = p_epoch
                              and l.key_hash = t.key_hash and l."offset" = t."offset" and l.n = t.n + 1)
            order by t."offset", t.n
        loop
            continue when queue.is_over(p_id, p_epoch, p_position, v_turn."offset");
            if v_turn.parked then
                insert into queue.turn (subscriber_id, epoch, key_hash, "offset", n, attempt, parked)
                values (p_id, p_epoch, v_key.key_hash, v_turn."offset", v_turn.n + 1, v_turn.attempt, false);
                v_attempts := v_attempts || v_turn.attempt;
                v_next := v_next || v_turn."offset";
            end if;
            exit;
        end loop;
    end loop;
    for v_turn in select n.attempt, range_agg(int8range(n."offset", n."offset", '[]')) as offsets
                  from unnest(v_attempts, v_next) n(attempt, "offset") group by 1 loop
        perform queue.put(p_id, p_epoch, p_position, 'p', v_turn.attempt, false, v_turn.offsets, clock_timestamp(),
                          clock_timestamp());
        v_made := true;
    end loop;
    if not v_made then
        perform queue.put(p_id, p_epoch, p_position, 'i', 0, false, '{}', clock_timestamp(), '-infinity');
    end if;
end
$$;

comment on function queue.is_over is 'Whether a message is done or dead.';
comment on function queue.keyed is 'The messages of a set that have a key.';
comment on function queue.followers is 'The messages of a set that follow another one of their key.';
comment on function queue.check_front is 'Refuses to settle a message while a lease holds one before it in its key.';
comment on function queue.pass_over is 'Takes the next messages whose key is free, and parks the others.';
comment on function queue.take_turns is 'Takes of a hold those messages whose key is free, and parks the others.';
comment on function queue.pass_on is 'After messages are over, makes the next one of each of their keys due.';
