-- Subscribers: subscribe, look at, unsubscribe; and where a new or moved position may lie.

-- queue.offset_at: the first offset that was published at or after a time.
--   p_topic_id   the topic's number
--   p_timestamp  the time
-- Returns head + 1 when nothing was. A binary search: published_at never falls and offsets have no gaps.
create or replace function queue.offset_at(p_topic_id integer, p_timestamp timestamptz)
returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_low  bigint;
    v_high bigint;
    v_middle bigint;
begin
    select t.floor, t.head + 1 into v_low, v_high from queue.topics t where t.topic_id = p_topic_id;
    while v_low < v_high loop
        v_middle := (v_low + v_high) / 2;
        if exists (select from queue.message m where m.topic_id = p_topic_id and m."offset" = v_middle
                                                 and m.published_at >= p_timestamp) then
            v_high := v_middle;
        else
            v_low := v_middle + 1;
        end if;
    end loop;
    return v_low;
end
$$;

-- queue.out_of_range: raises that an offset lies outside of what a topic holds.
--   p_topic, p_offset  the topic and the offset asked for
--   p_first, p_last    the range that would have been right
-- Raises QL004 offset_out_of_range, with floor and head in DETAIL.
create or replace function queue.out_of_range(p_topic text, p_offset bigint, p_first bigint, p_last bigint)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    raise exception using errcode = 'QL004',
        message = format('offset %s is out of range: topic %L takes %s to %s here', p_offset, p_topic, p_first, p_last),
        detail = (select json_build_object('floor', t.floor, 'head', t.head)::text
                  from queue.topics t where t.topic = p_topic);
end
$$;

-- queue.new_epoch: where the epoch of a new subscriber begins.
-- Returns a random number below 2^52, so that no ack from an earlier life of the subscriber or its topic is taken for
-- one of the new life's: not from before a restored backup either, where a sequence would give out the same again. Not
-- random(), which setseed makes repeat itself. Locks nothing.
create or replace function queue.new_epoch()
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
    select ('x' || right(replace(gen_random_uuid()::text, '-', ''), 13))::bit(52)::bigint
$$;

-- queue.place: the position that a start, seek or reset asks for.
--   p_topic      the topic's name
--   p_offset     a position: the last offset already done, floor - 1 to head; or null
--   p_timestamp  the next message is the first one published at or after it; or null
-- Returns the position. Raises QL001 topic_not_found, QL004 offset_out_of_range, QL009 invalid_request unless
-- exactly one is given.
create or replace function queue.place(p_topic text, p_offset bigint, p_timestamp timestamptz)
returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_topic queue.topics := queue.get_topic(p_topic);
begin
    if (p_offset is null) = (p_timestamp is null) then
        raise exception using errcode = 'QL009', message = 'give an offset or a timestamp, and only one of them';
    end if;
    if p_timestamp is not null then
        return queue.offset_at(v_topic.topic_id, p_timestamp) - 1;
    end if;
    if p_offset not between v_topic.floor - 1 and v_topic.head then
        perform queue.out_of_range(p_topic, p_offset, v_topic.floor - 1, v_topic.head);
    end if;
    return p_offset;
end
$$;

-- queue.get_subscriber: one subscriber.
--   p_topic, p_subscriber  the topic's name and the subscriber's
-- Returns its row of queue.subscribers. Raises QL001 topic_not_found, QL002 subscriber_not_found. Locks nothing.
create or replace function queue.get_subscriber(p_topic text, p_subscriber text)
returns queue.subscribers
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_subscriber queue.subscribers;
begin
    select * into v_subscriber from queue.subscribers s where s.topic = p_topic and s.subscriber = p_subscriber;
    if not found then
        perform queue.missing(p_topic, coalesce(p_subscriber, ''));
    end if;
    return v_subscriber;
end
$$;

-- queue.list_subscribers: a topic's subscribers in the order of their names, a page at a time.
--   p_topic  the topic's name
--   p_after  the last name of the page before; null for the first page
--   p_limit  how many at the most
-- Returns rows of queue.subscribers. Raises QL001 topic_not_found. Locks nothing.
create or replace function queue.list_subscribers(
    p_topic text, p_after text default null, p_limit integer default 100)
returns setof queue.subscribers
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_topic queue.topics := queue.get_topic(p_topic);
begin
    return query
    select * from queue.subscribers s
    where s.topic_id = v_topic.topic_id and s.subscriber > coalesce(p_after, '')
    order by s.subscriber
    limit p_limit;
end
$$;

-- queue.next_subscriber_id: a number for a new subscriber.
-- Returns one that no subscriber has and of which nothing is left, as queue.next_topic_id does. Locks nothing.
create or replace function queue.next_subscriber_id()
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_subscriber_id bigint;
begin
    loop
        v_subscriber_id := nextval('queue.subscriber_subscriber_id_seq');
        if not exists (select from queue.subscriber s where s.subscriber_id = v_subscriber_id)
           and not exists (select from queue.position p where p.subscriber_id = v_subscriber_id)
           and not exists (select from queue.crew c where c.subscriber_id = v_subscriber_id)
           and not exists (select from queue.hold h where h.subscriber_id = v_subscriber_id)
           and not exists (select from queue.settled s where s.subscriber_id = v_subscriber_id)
           and not exists (select from queue.extension e where e.subscriber_id = v_subscriber_id)
           and not exists (select from queue.turn t where t.subscriber_id = v_subscriber_id)
           and not exists (select from queue.dead d where d.subscriber_id = v_subscriber_id) then
            return v_subscriber_id;
        end if;
        perform setval('queue.subscriber_subscriber_id_seq',
                       greatest((select max(s.subscriber_id) from queue.subscriber s),
                                (select max(p.subscriber_id) from queue.position p),
                                (select max(c.subscriber_id) from queue.crew c),
                                (select max(h.subscriber_id) from queue.hold h),
                                (select max(s.subscriber_id) from queue.settled s),
                                (select max(e.subscriber_id) from queue.extension e),
                                (select max(t.subscriber_id) from queue.turn t),
                                (select max(d.subscriber_id) from queue.dead d)));
    end loop;
end
$$;

-- queue.add_subscriber: makes a subscriber, unless another session has made it meanwhile.
--   p_topic, p_name                  the topic's name and the subscriber's
--   p_start, p_offset, p_timestamp   as for queue.subscribe
-- Returns whether it did. Raises and locks as queue.subscribe does for a new one.
create or replace function queue.add_subscriber(p_topic text, p_name text, p_start text, p_offset bigint,
                                                p_timestamp timestamptz)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_topic_id      integer := queue.lock_topic(p_topic);
    v_offset        bigint := p_offset;
    v_subscriber_id bigint;
begin
    if p_offset is null and p_timestamp is null then
        select case p_start when 'latest' then t.head else t.floor - 1 end
        into v_offset from queue.topics t where t.topic_id = v_topic_id;
    end if;
    if exists (select from queue.subscriber s where s.topic_id = v_topic_id and s.name = p_name) then
        return false;
    end if;
    v_offset := queue.place(p_topic, v_offset, p_timestamp);
    loop
        insert into queue.subscriber (subscriber_id, topic_id, name) overriding system value
        values (queue.next_subscriber_id(), v_topic_id, p_name)
        on conflict do nothing
        returning subscriber_id into v_subscriber_id;
        exit when found; -- else somebody took the number at the same moment
    end loop;
    insert into queue.position (subscriber_id, move, "offset", epoch, cause)
    values (v_subscriber_id, 1, v_offset, queue.new_epoch(), 'start');
    return true;
end
$$;

-- queue.subscribe: makes a subscriber, or finds the one that has the name.
--   p_topic       the topic's name
--   p_subscriber  the subscriber's name; null: one is made up
--   p_start       'latest' or 'earliest', used when neither of the next two is given
--   p_offset, p_timestamp  another start, as for queue.place
--   p_max_attempts, p_backoff_seconds, p_backoff_cap_seconds, p_ordered  its settings, as for queue.configure; null: as usual
-- Returns its row of queue.subscribers, its settings, and created = false when it was there already: then it is not moved, and
--   has the settings that it had.
-- Raises QL001 topic_not_found, QL004 offset_out_of_range, QL007 invalid_name, QL009 invalid_request.
-- Locks nothing when the subscriber is there. Else takes the topic's lock, so "latest" is exact: what commits later
-- will be delivered.
create or replace function queue.subscribe(
    p_topic text, p_subscriber text default null, p_start text default 'latest',
    p_offset bigint default null, p_timestamp timestamptz default null,
    p_max_attempts integer default null, p_backoff_seconds double precision default null,
    p_backoff_cap_seconds double precision default null, p_ordered boolean default null,
    out subscriber queue.subscribers, out created boolean, out max_attempts integer, out backoff_seconds double precision,
    out backoff_cap_seconds double precision, out ordered boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_name text := coalesce(p_subscriber, 'subscriber-' || left(gen_random_uuid()::text, 13));
begin
    perform queue.check_name('subscriber', v_name);
    if p_offset is null and p_timestamp is null and (p_start in ('latest', 'earliest')) is not true then
        raise exception using errcode = 'QL009', message = 'start is latest, earliest, a position or a timestamp';
    end if;
    perform queue.check_settings(p_max_attempts, p_backoff_seconds, p_backoff_cap_seconds);
    select * into subscriber from queue.subscribers s where s.topic = p_topic and s.subscriber = v_name;
    created := not found;
    if created then
        created := queue.add_subscriber(p_topic, v_name, p_start, p_offset, p_timestamp);
        if created and num_nonnulls(p_max_attempts, p_backoff_seconds, p_backoff_cap_seconds, p_ordered) > 0 then
            perform queue.configure(p_topic, v_name, p_max_attempts, p_backoff_seconds, p_backoff_cap_seconds, p_ordered);
        end if;
        subscriber := queue.get_subscriber(p_topic, v_name);
    end if;
    select s.max_attempts, s.backoff_seconds, s.backoff_cap_seconds, s.ordered
    into max_attempts, backoff_seconds, backoff_cap_seconds, ordered from queue.settings(p_topic, v_name) s;
end
$$;

-- queue.unsubscribe: removes a subscriber with its position and history, its leases and its dead letters.
--   p_topic, p_subscriber  the topic's name and the subscriber's
-- Raises QL001 topic_not_found, QL002 subscriber_not_found. Takes the topic's lock. What a very long history or much work
-- leaves behind is removed by queue.tidy.
create or replace function queue.unsubscribe(p_topic text, p_subscriber text)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_custom_plan -- as queue.clear
as $$
declare
    v_topic_id      integer := queue.lock_topic(p_topic);
    v_subscriber_id bigint;
begin
    delete from queue.subscriber s where s.topic_id = v_topic_id and s.name = p_subscriber
    returning s.subscriber_id into v_subscriber_id;
    if not found then
        perform queue.missing(p_topic, coalesce(p_subscriber, ''));
    end if;
    delete from queue.position p
    where p.ctid = any (array(select q.ctid from queue.position q where q.subscriber_id = v_subscriber_id
                              order by q.move limit 100000));
    perform queue.clear_work(array[v_subscriber_id], 100000);
end
$$;

comment on function queue.offset_at is 'The first offset that was published at or after a time.';
comment on function queue.out_of_range is 'Raises that an offset lies outside of what a topic holds.';
comment on function queue.new_epoch is 'A random number at which the epoch of a new subscriber begins.';
comment on function queue.place is 'The position that a start, seek or reset asks for.';
comment on function queue.get_subscriber is 'One subscriber.';
comment on function queue.list_subscribers is 'A topic''s subscribers in the order of their names, a page at a time.';
comment on function queue.next_subscriber_id is 'A number for a new subscriber.';
comment on function queue.add_subscriber is 'Makes a subscriber, unless another session has made it meanwhile.';
comment on function queue.subscribe is 'Makes a subscriber, or finds the one that has the name.';
comment on function queue.unsubscribe is 'Removes a subscriber with all that is its own.';
