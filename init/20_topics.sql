-- Topics: create, look at, delete; and the helpers that every later file uses.

-- queue.missing: raises that a topic, or a subscriber of it, does not exist.
--   p_topic       the topic's name as the caller gave it
--   p_subscriber  the subscriber's name, or null when it was the topic that was looked for
-- Returns never. Raises QL001 topic_not_found, QL002 subscriber_not_found. Locks nothing.
create or replace function queue.missing(p_topic text, p_subscriber text default null)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    if p_subscriber is null or not exists (select from queue.topic t where t.name = p_topic) then
        raise exception using errcode = 'QL001', message = format('topic %L does not exist', left(p_topic, 200));
    end if;
    raise exception using errcode = 'QL002',
        message = format('topic %L has no subscriber %L', p_topic, left(p_subscriber, 200));
end
$$;

-- queue.check_name: refuses a name that is not 1 to 200 of A-Z a-z 0-9 . _ - or that is . or ..
--   p_what  what is named, for the message
--   p_name  the name
-- Raises QL007 invalid_name. Locks nothing.
create or replace function queue.check_name(p_what text, p_name text)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    if p_name is null or p_name !~ '^[A-Za-z0-9._-]{1,200}$' or p_name in ('.', '..') then
        raise exception using errcode = 'QL007',
            message = format('%L cannot be the name of a %s: it takes 1 to 200 of A-Z a-z 0-9 . _ - and is not . or ..',
                             left(p_name, 60), p_what);
    end if;
end
$$;

-- queue.lock_topic: takes the topic's lock, which is held until the transaction ends.
--   p_topic  the topic's name
-- Returns the topic's number. Raises QL001 topic_not_found, also when it was deleted while we waited.
create or replace function queue.lock_topic(p_topic text)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_topic_id integer;
begin
    select t.topic_id into v_topic_id from queue.topic t where t.name = p_topic;
    perform pg_advisory_xact_lock(42, v_topic_id);
    if not exists (select from queue.topic t where t.topic_id = v_topic_id and t.name = p_topic) then
        perform queue.missing(p_topic);
    end if;
    return v_topic_id;
end
$$;

-- queue.get_topic: one topic.
--   p_topic  the topic's name
-- Returns its row of queue.topics. Raises QL001 topic_not_found. Locks nothing.
create or replace function queue.get_topic(p_topic text)
returns queue.topics
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_topic queue.topics;
begin
    select * into v_topic from queue.topics t where t.topic = p_topic;
    if not found then
        perform queue.missing(p_topic);
    end if;
    return v_topic;
end
$$;

-- queue.list_topics: topics in the order of their names, a page at a time.
--   p_after  the last name of the page before; null for the first page
--   p_limit  how many at the most
-- Returns rows of queue.topics. Locks nothing.
create or replace function queue.list_topics(p_after text default null, p_limit integer default 100)
returns setof queue.topics
language sql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
    select * from queue.topics t
    where t.topic > coalesce(p_after, '')
    order by t.topic
    limit p_limit
$$;

-- queue.next_topic_id: a number for a new topic.
-- Returns one of which nothing is left: no topic, and nothing that waits for queue.tidy. The sequence may be behind, since
-- logical replication carries none: then it is set past all that is there. Two at once may set it back for each other;
-- then the primary key of queue.topic lets one of them have the number. Locks nothing.
create or replace function queue.next_topic_id()
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_topic_id integer;
    v_last     integer;
begin
    loop
        v_topic_id := nextval('queue.topic_topic_id_seq');
        if not exists (select from queue.topic t where t.topic_id = v_topic_id)
           and not exists (select from queue.subscriber s where s.topic_id = v_topic_id)
           and not exists (select from queue.publication p where p.topic_id = v_topic_id)
           and not exists (select from queue.message m where m.topic_id = v_topic_id) then
            return v_topic_id;
        end if;
        v_last := greatest((select max(t.topic_id) from queue.topic t), (select max(s.topic_id) from queue.subscriber s),
                           (select max(p.topic_id) from queue.publication p), (select max(m.topic_id) from queue.message m));
        if v_last > v_topic_id and v_last < 2147483647 then -- behind the very last one, one by one
            perform setval('queue.topic_topic_id_seq', v_last);
        end if;
    end loop;
end
$$;

-- queue.create_topic: makes a topic.
--   p_topic        its name
--   p_description  what it is for; may be null
-- Returns its row of queue.topics. Raises QL003 topic_exists, QL007 invalid_name.
create or replace function queue.create_topic(p_topic text, p_description text default null)
returns queue.topics
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    perform queue.check_name('topic', p_topic);
    if length(p_description) > 1000 then
        raise exception using errcode = 'QL009', message = 'a description has at most 1000 characters';
    end if;
    loop
        -- before the insert, so that a refusal takes no number
        if exists (select from queue.topic t where t.name = p_topic) then
            raise exception using errcode = 'QL003', message = format('topic %L exists already', p_topic);
        end if;
        insert into queue.topic (topic_id, name, description) overriding system value
        values (queue.next_topic_id(), p_topic, p_description)
        on conflict do nothing;
        exit when found; -- else somebody took the name, or the number, at the same moment
    end loop;
    return queue.get_topic(p_topic);
end
$$;

-- queue.delete_topic: removes a topic with its messages and subscribers.
--   p_topic  the topic's name
-- Raises QL001 topic_not_found. Takes the topic's lock: publishes to it wait, then find no topic.
-- What a large topic leaves behind is out of reach at once and is removed by queue.tidy.
create or replace function queue.delete_topic(p_topic text)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_topic_id integer := queue.lock_topic(p_topic);
begin
    delete from queue.topic t where t.topic_id = v_topic_id;
    perform queue.clear(array[v_topic_id], 100000);
end
$$;

-- queue.clear: removes a chunk of what is left of topics that were deleted.
--   p_topic_ids  their numbers
--   p_limit      how many rows at the most, of each kind
-- Returns how many rows were removed. A subscriber may go before all its moves, and what its workers left: queue.tidy_moves
-- and queue.tidy_work find those. Each chunk is
-- read in an index's order and deleted by its place, so that nothing else is read, whatever the statistics say; and planned
-- each time: a plan from when a table was small reads all of it, for each of the places.
create or replace function queue.clear(p_topic_ids integer[], p_limit integer)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_custom_plan
as $$
declare
    v_removed bigint := 0;
    v_rows    bigint;
begin
    v_removed := queue.clear_work(array(select s.subscriber_id from unnest(p_topic_ids) t(topic_id)
                                        join queue.subscriber s using (topic_id) limit p_limit), p_limit);

    delete from queue.position p
    where p.ctid = any (array(select q.ctid
                              from unnest(p_topic_ids) t(topic_id)
                              join queue.subscriber s using (topic_id)
                              cross join lateral (select l.ctid from queue.position l
                                                  where l.subscriber_id = s.subscriber_id order by l.move limit p_limit) q
                              limit p_limit));
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    delete from queue.subscriber s
    where s.ctid = any (array(select q.ctid
                              from unnest(p_topic_ids) t(topic_id)
                              cross join lateral (select l.ctid from queue.subscriber l
                                                  where l.topic_id = t.topic_id order by l.name limit p_limit) q
                              limit p_limit));
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    delete from queue.publication p
    where p.ctid = any (array(select q.ctid
                              from unnest(p_topic_ids) t(topic_id)
                              cross join lateral (select l.ctid from queue.publication l where l.topic_id = t.topic_id
                                                  order by l.producer, l.sequence limit p_limit) q
                              limit p_limit));
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    delete from queue.message m
    where m.ctid = any (array(select q.ctid
                              from unnest(p_topic_ids) t(topic_id)
                              cross join lateral (select l.ctid from queue.message l
                                                  where l.topic_id = t.topic_id order by l."offset" limit p_limit) q
                              limit p_limit));
    get diagnostics v_rows = row_count;
    return v_removed + v_rows;
end
$$;

-- queue.clear_work: removes a chunk of what the workers of some subscribers have left.
--   p_ids    the subscribers, which are gone
--   p_limit  how many rows at the most, of each kind
-- Returns how many rows were removed. Reads and is planned as queue.clear.
create or replace function queue.clear_work(p_ids bigint[], p_limit integer)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_custom_plan
as $$
declare
    v_removed bigint := 0;
    v_rows    bigint;
begin
    delete from queue.crew c where c.subscriber_id = any (p_ids);

    delete from queue.hold h
    where h.ctid = any (array(select q.ctid from unnest(p_ids) s(id)
                              cross join lateral (select l.ctid from queue.hold l
                                                  where l.subscriber_id = s.id order by l.act limit p_limit) q
                              limit p_limit));
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    delete from queue.settled d
    where d.ctid = any (array(select q.ctid from unnest(p_ids) s(id)
                              cross join lateral (select l.ctid from queue.settled l where l.subscriber_id = s.id
                                                  order by l.epoch, l.counts, l.first, l.act limit p_limit) q
                              limit p_limit));
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    delete from queue.extension e
    where e.ctid = any (array(select q.ctid from unnest(p_ids) s(id)
                              cross join lateral (select l.ctid from queue.extension l where l.subscriber_id = s.id
                                                  order by l.lease, l.n limit p_limit) q
                              limit p_limit));
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    delete from queue.turn t
    where t.ctid = any (array(select q.ctid from unnest(p_ids) s(id)
                              cross join lateral (select l.ctid from queue.turn l where l.subscriber_id = s.id
                                                  order by l.epoch, l.key_hash, l."offset", l.n limit p_limit) q
                              limit p_limit));
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    delete from queue.dead d
    where d.ctid = any (array(select q.ctid from unnest(p_ids) s(id)
                              cross join lateral (select l.ctid from queue.dead l
                                                  where l.subscriber_id = s.id order by l."offset" limit p_limit) q
                              limit p_limit));
    get diagnostics v_rows = row_count;
    return v_removed + v_rows;
end
$$;

comment on function queue.missing is 'Raises that a topic, or a subscriber of it, does not exist.';
comment on function queue.check_name is 'Refuses a name that a topic or subscriber cannot have.';
comment on function queue.lock_topic is 'Takes the topic''s lock until the transaction ends; returns its number.';
comment on function queue.get_topic is 'One topic.';
comment on function queue.list_topics is 'Topics in the order of their names, a page at a time.';
comment on function queue.next_topic_id is 'A number for a new topic.';
comment on function queue.create_topic is 'Makes a topic.';
comment on function queue.delete_topic is 'Removes a topic with its messages and subscribers.';
comment on function queue.clear is 'Removes a chunk of what is left of topics that were deleted.';
comment on function queue.clear_work is 'Removes a chunk of what the workers of some subscribers have left.';
