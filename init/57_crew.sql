-- How the workers of a subscriber work, and what they are at.

-- queue.settings: the settings of a subscriber.
--   p_topic, p_subscriber  the topic's name and the subscriber's
-- Returns them. Raises QL001 topic_not_found, QL002 subscriber_not_found. Locks nothing.
create or replace function queue.settings(
    p_topic text, p_subscriber text, out max_attempts integer, out backoff_seconds double precision,
    out backoff_cap_seconds double precision, out ordered boolean)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    select c.max_attempts, c.backoff_seconds, c.backoff_cap_seconds, c.ordered
    into max_attempts, backoff_seconds, backoff_cap_seconds, ordered
    from queue.crew_of(p_topic, p_subscriber) c;
    if not found then
        perform queue.missing(p_topic, coalesce(p_subscriber, ''));
    end if;
end
$$;

-- queue.check_settings: refuses settings that no subscriber can have; null says nothing.
-- Raises QL009 invalid_request. Locks nothing.
create or replace function queue.check_settings(p_max_attempts integer, p_backoff_seconds double precision,
                                                p_backoff_cap_seconds double precision)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    if p_max_attempts not between 1 and 10000 then
        raise exception using errcode = 'QL009', message = 'max_attempts is 1 to 10000';
    end if;
    if p_backoff_seconds not between 0 and 604800 or p_backoff_cap_seconds not between 0 and 604800 then
        raise exception using errcode = 'QL009', message = 'backoff_seconds and backoff_cap_seconds are 0 to 604800';
    end if;
end
$$;

-- queue.configure: changes settings of a subscriber.
--   p_topic, p_subscriber  the topic's name and the subscriber's
--   p_max_attempts         how often a message is leased before it is a dead letter: 1 to 10,000, 5 where nothing was set.
--                          It counts at the next expiry or nack; what is dead stays dead
--   p_backoff_seconds      the delay after the first attempt, which doubles with each further one: 0 to 604,800; 1
--   p_backoff_cap_seconds  the longest delay: 0 to 604,800; 3,600
--   p_ordered              whether messages of one key are worked on one after the other; false
-- What is null stays as it is. Returns the settings as they are now. Raises QL001 topic_not_found, QL002
--   subscriber_not_found, QL009 invalid_request, QL013 leases_out: ordered changes only while nothing is leased, delayed or
--   parked (a seek to the position makes it so). Takes lock 43 of the subscriber until the transaction ends.
create or replace function queue.configure(
    p_topic text, p_subscriber text, p_max_attempts integer default null, p_backoff_seconds double precision default null,
    p_backoff_cap_seconds double precision default null, p_ordered boolean default null,
    out max_attempts integer, out backoff_seconds double precision, out backoff_cap_seconds double precision,
    out ordered boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_id bigint := (queue.get_subscriber(p_topic, p_subscriber)).subscriber_id;
    v_at record;
begin
    perform queue.check_settings(p_max_attempts, p_backoff_seconds, p_backoff_cap_seconds);
    perform pg_advisory_xact_lock(43, queue.crew_key(v_id));
    select c.ordered into ordered from queue.crew_of(p_topic, p_subscriber) c;
    if p_ordered <> ordered then
        perform pg_advisory_xact_lock(45, queue.crew_key(v_id)); -- not only tried: what is done has to be passed
        v_at := queue.advance(v_id, 1000000);
        if (select s.frontier from queue.ledger(v_id, v_at.epoch, v_at."position") s) > v_at."position" then
            raise exception using errcode = 'QL013', message = format(
                'messages of subscriber %L are leased, delayed or parked: try again when they are done, or seek to its position',
                p_subscriber);
        end if;
        -- so that whoever leases with an older snapshot is found out
        perform queue.put(v_id, v_at.epoch, v_at."position", 'i', 0, false, '{}', clock_timestamp(), '-infinity');
    end if;
    insert into queue.crew (subscriber_id, max_attempts, backoff_seconds, backoff_cap_seconds, ordered)
    select v_id, coalesce(p_max_attempts, c.max_attempts), coalesce(p_backoff_seconds, c.backoff_seconds),
           coalesce(p_backoff_cap_seconds, c.backoff_cap_seconds), coalesce(p_ordered, c.ordered)
    from queue.crew_of(p_topic, p_subscriber) c
    on conflict (subscriber_id) do update
    set max_attempts = excluded.max_attempts, backoff_seconds = excluded.backoff_seconds,
        backoff_cap_seconds = excluded.backoff_cap_seconds, ordered = excluded.ordered;
    select s.* into max_attempts, backoff_seconds, backoff_cap_seconds, ordered from queue.settings(p_topic, p_subscriber) s;
end
$$;

-- queue.holds: every hold that has something left: leases, also those that have expired, and what waits to be leased again.
-- Of a subscriber the first 10,000 to be due are looked at. As it has no functions of ours, who may read it need not call any.
create or replace view queue.holds as
select p.topic,
       p.subscriber,
       h.kind,
       h.lease,
       h.worker,
       l.rest as offsets,
       h.attempt,
       h.held_at,
       greatest(h.due_at, e.expires_at) as due_at,
       p.topic_id,
       p.subscriber_id
from queue.subscribers p
cross join lateral (select q.epoch, q.cursor_due, q.cursor_act, q.cursor_offset from queue.hold q
                    where q.subscriber_id = p.subscriber_id order by q.act desc limit 1) s
cross join lateral (select q.*, coalesce(q.origin, q.act) as under,
                           case when q.kind in ('l', 'c') then coalesce(q.origin, q.act) - q.part end as lease
                    from queue.hold q
                    where q.subscriber_id = p.subscriber_id and q.epoch = p.epoch
                      and (q.due_at, q.act) >= (s.cursor_due, s.cursor_act)
                      and (q.act <> s.cursor_act or s.cursor_offset is not null)
                    order by q.due_at, q.act limit 10000) h
left join lateral (select q.expires_at from queue.extension q
                   where q.subscriber_id = p.subscriber_id and q.lease = h.lease order by q.n desc limit 1) e on true
cross join lateral (
    select int8multirange(int8range(greatest(case when h.act = s.cursor_act then s.cursor_offset else 0 end,
                                             case when h.redriven then 0 else p."position" end), null, '()'))
           * (h.offsets - coalesce(range_agg(int8range(d.first, d.last, '[]')), '{}')) as rest
    from unnest(h.offsets) u
    cross join lateral (select q.first, q.last from queue.settled q
                        where q.subscriber_id = p.subscriber_id and q.epoch = p.epoch and q.counts in (false, true)
                          and q.first >= lower(u) and q.first < upper(u) and q.act = h.under offset 0) d) l
where s.epoch = p.epoch and not isempty(l.rest);

comment on view queue.holds is 'Every hold that has something left: leases, and what waits to be leased again.';
comment on column queue.holds.topic is 'The topic''s name.';
comment on column queue.holds.subscriber is 'The subscriber''s name.';
comment on column queue.holds.kind is 'As in queue.hold.';
comment on column queue.holds.lease is 'If it is a lease: its id without its secret.';
comment on column queue.holds.worker is 'Who has it, or had it last.';
comment on column queue.holds.offsets is 'The messages that are left.';
comment on column queue.holds.attempt is 'How often they have been leased.';
comment on column queue.holds.held_at is 'Since when.';
comment on column queue.holds.due_at is 'Until when.';
comment on column queue.holds.topic_id is 'The topic''s number inside the database.';
comment on column queue.holds.subscriber_id is 'The subscriber''s number inside the database.';

-- queue.leases: every lease that has not expired, with what is left of it.
create or replace view queue.leases as
select h.topic,
       h.subscriber,
       h.lease,
       h.worker,
       range_agg(h.offsets) as offsets,
       max(h.attempt) as attempt,
       min(h.held_at) as leased_at,
       max(h.due_at) as expires_at,
       h.topic_id,
       h.subscriber_id
from queue.holds h
where h.lease is not null and h.due_at > statement_timestamp()
group by h.topic, h.subscriber, h.lease, h.worker, h.topic_id, h.subscriber_id;

comment on view queue.leases is 'Every lease that has not expired, with what is left of it.';
comment on column queue.leases.topic is 'The topic''s name.';
comment on column queue.leases.subscriber is 'The subscriber''s name.';
comment on column queue.leases.lease is 'The lease: its id without its secret.';
comment on column queue.leases.worker is 'Who has it.';
comment on column queue.leases.offsets is 'The messages that it holds.';
comment on column queue.leases.attempt is 'Which attempt it is; the highest, when they differ.';
comment on column queue.leases.leased_at is 'Since when it has them.';
comment on column queue.leases.expires_at is 'Until when it has them.';
comment on column queue.leases.topic_id is 'The topic''s number inside the database.';
comment on column queue.leases.subscriber_id is 'The subscriber''s number inside the database.';

-- queue.list_leases: a subscriber's leases in the order in which they were made, a page at a time.
--   p_topic, p_subscriber  the topic's name and the subscriber's
--   p_after  the last lease of the page before, without its secret; null for the first page
--   p_limit  how many at the most
-- Returns rows of queue.leases. Raises QL001 topic_not_found, QL002 subscriber_not_found. Locks nothing.
create or replace function queue.list_leases(p_topic text, p_subscriber text, p_after bigint default null,
                                             p_limit integer default 100)
returns setof queue.leases
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_id bigint := (queue.get_subscriber(p_topic, p_subscriber)).subscriber_id;
begin
    return query
    select * from queue.leases l where l.subscriber_id = v_id and l.lease > coalesce(p_after, 0) order by l.lease limit p_limit;
end
$$;

-- queue.leases_json: what queue.list_leases returns, as the text that a server sends: JSON objects with commas between them.
--   as for queue.list_leases
-- It ends early when the leases before have 400,000 messages, so that the text has 8 MiB or a little more at the most.
-- Raises as queue.list_leases. Locks nothing.
create or replace function queue.leases_json(p_topic text, p_subscriber text, p_after bigint default null,
                                             p_limit integer default 100)
returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    return (
        select coalesce(string_agg(
            concat('{"lease":"', l.lease, '","worker":', coalesce(to_json(l.worker)::text, 'null'), ',"offsets":[', o.list,
                   '],"attempt":', l.attempt, ',"leased_at":', to_json(queue.rfc3339(l.leased_at)),
                   ',"expires_at":', to_json(queue.rfc3339(l.expires_at)), '}'), ',' order by l.lease), '')
        from (select q.*, sum(queue.size_of(q.offsets)) over (order by q.lease) - queue.size_of(q.offsets) as before
              from queue.list_leases(p_topic, p_subscriber, p_after, p_limit) q) l
        cross join lateral (select string_agg(o::text, ',' order by o) as list from unnest(l.offsets) u
                            cross join lateral generate_series(lower(u), upper(u) - 1) o) o
        where l.before < 400000);
end
$$;

-- queue.workloads: what the workers of each subscriber are at, for monitoring; of those that have, or had, any.
--   p_limit  how many subscribers at the most
-- Returns topic, subscriber, and how many messages are leased, delayed (given back or redriven, and not due yet) and dead, how
--   many were leased for another attempt than the first since it subscribed, and for how long the oldest lease is held, null
--   when there is none. Of each, 10,000 holds and 10,000 dead letters are counted. Locks nothing.
create or replace function queue.workloads(p_limit integer default 10000)
returns table (topic text, subscriber text, leased bigint, delayed bigint, dead bigint, redeliveries bigint,
               oldest_lease_seconds numeric)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    return query
    select p.topic, p.subscriber, o.leased, o.delayed, d.dead, coalesce(h.redeliveries, 0), o.oldest
    from queue.subscribers p
    left join lateral (select q.act, q.redeliveries from queue.hold q
                       where q.subscriber_id = p.subscriber_id order by q.act desc limit 1) h on true
    cross join lateral (select count(*) as dead from (select from queue.dead q where q.subscriber_id = p.subscriber_id
                                                         and q.redriven_epoch is distinct from p.epoch limit 10000) q) d
    cross join lateral (
        select coalesce(sum(c.size) filter (where q.lease is not null), 0)::bigint as leased,
               coalesce(sum(c.size) filter (where q.lease is null), 0)::bigint as delayed,
               extract(epoch from statement_timestamp() - min(q.held_at) filter (where q.lease is not null)) as oldest
        from queue.holds q
        cross join lateral (select sum(upper(u) - lower(u)) as size from unnest(q.offsets) u) c
        where q.subscriber_id = p.subscriber_id and q.due_at > statement_timestamp()) o
    where h.act is not null or d.dead > 0
    order by p.topic, p.subscriber
    limit p_limit;
end
$$;

-- queue.acts: what was done last to the work of some subscribers, for those who wait for a lease.
--   p_topics, p_subscribers  the topics' names and the subscribers', as many of each
-- Returns for those that exist the epoch, and the newest act, 0 before the first. When one of them is another than before
-- there may be something to do. Locks nothing.
create or replace function queue.acts(p_topics text[], p_subscribers text[])
returns table (topic text, subscriber text, epoch bigint, act bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
    select n.topic, n.subscriber, p.epoch, coalesce(h.act, 0)
    from unnest(p_topics, p_subscribers) n(topic, subscriber)
    cross join lateral (select s.subscriber_id from queue.topic t join queue.subscriber s using (topic_id)
                        where t.name = n.topic and s.name = n.subscriber offset 0) s
    cross join lateral (select q.epoch from queue.position q
                        where q.subscriber_id = s.subscriber_id order by q.move desc limit 1) p
    left join lateral (select q.act from queue.hold q
                       where q.subscriber_id = s.subscriber_id order by q.act desc limit 1) h on true
$$;

comment on function queue.acts is 'What was done last to the work of some subscribers.';
comment on function queue.settings is 'The settings of a subscriber.';
comment on function queue.check_settings is 'Refuses settings that no subscriber can have.';
comment on function queue.configure is 'Changes settings of a subscriber.';
comment on function queue.list_leases is 'A subscriber''s leases, a page at a time.';
comment on function queue.leases_json is 'What queue.list_leases returns, as the text that a server sends.';
comment on function queue.workloads is 'What the workers of each subscriber are at, for monitoring.';
