-- Reading: fetch and ack for subscribers, browse for everybody else.

-- queue.last_within: where a run of messages ends that is cut off by number and by size.
--   p_topic_id, p_first, p_limit, p_max_bytes  as for queue.slice
-- Returns an offset: p_first at least, and maybe one beyond the head. Locks nothing.
-- Most runs fit as a whole, and their sizes on disk, which cost nothing to read, say so: a text takes no more bytes than
-- it does there unless it is packed, and a key six times as many when each of its characters has to be escaped. Only
-- other runs are measured message by message; sizes on disk keep us from unpacking far more than can be returned.
create or replace function queue.last_within(p_topic_id integer, p_first bigint, p_limit integer, p_max_bytes bigint)
returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_last bigint := least(p_first + p_limit - 1, 9223372036854775807);
begin
    if (select sum(pg_column_size(m.payload) + coalesce(6 * octet_length(m.key) + 2, 0)
                   + coalesce(pg_column_size(m.headers), 0)) <= p_max_bytes
           and count(pg_column_compression(m.payload)) + count(pg_column_compression(m.headers)) = 0
        from queue.message m
        where m.topic_id = p_topic_id and m."offset" between p_first and v_last) is not false then
        return v_last;
    end if;
    return (
        select max(m."offset")
        from (select d."offset",
                     sum(octet_length(d.payload::text) + coalesce(octet_length(to_json(d.key)::text), 0)
                         + coalesce(octet_length(d.headers::text), 0)) over (order by d."offset" rows unbounded preceding)
                     as bytes
              from (select l.*, sum(pg_column_size(l.payload) - 4) over (order by l."offset" rows unbounded preceding) as stored
                    from queue.message l
                    where l.topic_id = p_topic_id and l."offset" between p_first and v_last) d
              where d.stored <= p_max_bytes or d."offset" = p_first) m
        where m.bytes <= p_max_bytes or m."offset" = p_first);
end
$$;

-- queue.slice: a contiguous run of messages, cut off by number and by size, but at least one.
--   p_topic_id   the topic's number
--   p_first      the first offset
--   p_limit      how many at the most
--   p_max_bytes  how many bytes of payload, key and headers at the most; the first message comes in any case
-- Returns rows of queue.message. Locks nothing. Written so that Postgres inlines it.
create or replace function queue.slice(p_topic_id integer, p_first bigint, p_limit integer, p_max_bytes bigint)
returns setof queue.message
language sql stable
as $$
    select m.*
    from queue.message m
    where m.topic_id = p_topic_id and m."offset" >= p_first
      and m."offset" <= (select queue.last_within(p_topic_id, p_first, p_limit, p_max_bytes))
    order by m."offset"
    limit p_limit
$$;

-- queue.rfc3339: a time as text, in UTC with microseconds. Written so that Postgres inlines it.
create or replace function queue.rfc3339(p_time timestamptz)
returns text
language sql stable
as $$
    select to_char(p_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- queue.as_json: a message as a JSON object.
--   p_message       the message
--   p_published_at  its time as text
-- Returns its text: offset, published_at, key and headers if it has them, payload as it was published. Locks nothing.
-- Written so that Postgres inlines it.
create or replace function queue.as_json(p_message queue.message, p_published_at text)
returns text
language sql stable
as $$
    select concat('{"offset":', p_message."offset", ',"published_at":"', p_published_at, '"',
                  ',"key":' || to_json(p_message.key)::text,
                  ',"headers":' || p_message.headers::text,
                  ',"payload":', p_message.payload, '}')
$$;

-- queue.stale_epoch: raises that an epoch is over.
--   p_subscriber  the subscriber's name
--   p_position, p_epoch  where it is now
-- Raises QL005 stale_epoch, with position and epoch in DETAIL.
create or replace function queue.stale_epoch(p_subscriber text, p_position bigint, p_epoch bigint)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    raise exception using errcode = 'QL005',
        message = format('the epoch is over: subscriber %L was reset, sought or made anew; fetch again', p_subscriber),
        detail = json_build_object('position', p_position, 'epoch', p_epoch);
end
$$;

-- queue.read_on: from where a subscriber reads.
--   p_topic, p_subscriber, p_after, p_epoch  as for queue.fetch
-- Returns its topic_id, position, epoch and head, and after: the offset after which to read. Raises as queue.fetch.
create or replace function queue.read_on(
    p_topic text, p_subscriber text, p_after bigint, p_epoch bigint default null,
    out topic_id integer, out "position" bigint, out epoch bigint, out head bigint, out after bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_floor bigint;
begin
    select s.topic_id, s."position", s.epoch, s.head, s.floor, coalesce(p_after, s."position")
    into topic_id, "position", epoch, head, v_floor, after
    from queue.subscribers s where s.topic = p_topic and s.subscriber = p_subscriber;
    if not found then
        perform queue.missing(p_topic, coalesce(p_subscriber, ''));
    end if;
    if p_epoch <> epoch then
        perform queue.stale_epoch(p_subscriber, "position", epoch);
    end if;
    if after not between v_floor - 1 and head then
        perform queue.out_of_range(p_topic, after, v_floor - 1, head);
    end if;
end
$$;

-- queue.fetch: the messages after a subscriber's position, in order, without a gap. Moves nothing.
--   p_topic, p_subscriber  the topic's name and the subscriber's
--   p_limit      how many at the most
--   p_after      read ahead: start after this offset instead of after the position; null: the position
--   p_max_bytes  how many bytes at the most, but at least one message
--   p_epoch      refuse when the subscriber is in another epoch by now; null: read in any. Who reads ahead says in which
--                one the messages before p_after came, or would pass over what a reset has brought back
-- Returns the messages, each with the epoch that its ack has to carry.
-- Raises QL001 topic_not_found, QL002 subscriber_not_found, QL004 offset_out_of_range (read ahead from beyond head,
--   or the next message is no longer kept), QL005 stale_epoch. Locks nothing.
create or replace function queue.fetch(
    p_topic text, p_subscriber text, p_limit integer default 100, p_after bigint default null,
    p_max_bytes bigint default 8388608, p_epoch bigint default null)
returns table ("offset" bigint, published_at timestamptz, key text, headers json, payload json, epoch bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
as $$
declare
    v_reader record := queue.read_on(p_topic, p_subscriber, p_after, p_epoch);
begin
    return query
    select m."offset", m.published_at, m.key, m.headers, m.payload, v_reader.epoch
    from queue.slice(v_reader.topic_id, v_reader.after + 1, p_limit, p_max_bytes) m;
end
$$;

-- queue.fetch_json: what queue.fetch returns, as the text that a server sends.
--   as for queue.fetch
-- Returns the subscriber's position and epoch, its topic's head, and the messages as JSON objects with commas between
--   them, '' when there are none. Raises as queue.fetch. Locks nothing.
create or replace function queue.fetch_json(
    p_topic text, p_subscriber text, p_limit integer default 100, p_after bigint default null,
    p_max_bytes bigint default 8388608, p_epoch bigint default null)
returns table ("position" bigint, epoch bigint, head bigint, messages text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
as $$
declare
    v_reader record := queue.read_on(p_topic, p_subscriber, p_after, p_epoch);
    -- what was published together has one time, and to write it out is a third of the work
    v_time   timestamptz := (select m.published_at from queue.message m
                             where m.topic_id = v_reader.topic_id and m."offset" = v_reader.after + 1);
    v_text   text := queue.rfc3339(v_time);
begin
    return query
    select v_reader."position", v_reader.epoch, v_reader.head,
           coalesce(string_agg(queue.as_json(m, case m.published_at when v_time then v_text
                                                else queue.rfc3339(m.published_at) end), ',' order by m."offset"), '')
    from queue.slice(v_reader.topic_id, v_reader.after + 1, p_limit, p_max_bytes) m;
end
$$;

-- queue.ack: says that a subscriber is done with everything up to an offset.
--   p_topic, p_subscriber  the topic's name and the subscriber's
--   p_offset  the last offset done; one below the position changes nothing
--   p_epoch   the epoch that the fetch returned
-- Returns position, epoch, head and lag as they are now. Raises QL001 topic_not_found, QL002 subscriber_not_found,
--   QL004 offset_out_of_range (beyond head), QL005 stale_epoch (the subscriber was reset, sought or made anew
--   since the fetch; fetch again); 40001 at REPEATABLE READ when someone moved the subscriber meanwhile.
-- Locks no row: the move's number is a compare-and-set, and who loses looks again.
create or replace function queue.ack(
    p_topic text, p_subscriber text, p_offset bigint, p_epoch bigint,
    out "position" bigint, out epoch bigint, out head bigint, out lag bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off -- as queue.publish_batch
as $$
declare
    v_reader record;
begin
    loop
        select s.subscriber_id, s.move, s."position", s.epoch, s.head into v_reader
        from queue.subscribers s where s.topic = p_topic and s.subscriber = p_subscriber;
        if not found then
            perform queue.missing(p_topic, coalesce(p_subscriber, ''));
        end if;
        if p_epoch is distinct from v_reader.epoch then
            perform queue.stale_epoch(p_subscriber, v_reader."position", v_reader.epoch);
        end if;
        if (p_offset between 0 and v_reader.head) is not true then
            perform queue.out_of_range(p_topic, p_offset, 0, v_reader.head);
        end if;
        exit when p_offset <= v_reader."position";
        insert into queue.position (subscriber_id, move, "offset", epoch, cause)
        values (v_reader.subscriber_id, v_reader.move + 1, p_offset, p_epoch, 'ack')
        on conflict do nothing;
        exit when found;
    end loop;
    "position" := greatest(p_offset, v_reader."position");
    epoch := v_reader.epoch;
    head := v_reader.head;
    lag := head - "position";
end
$$;

-- queue.browse: messages of a topic, read without a subscriber.
--   p_topic      the topic's name
--   p_offset     the first offset, floor to head + 1; null: floor
--   p_limit      how many at the most
--   p_max_bytes  how many bytes at the most, but at least one message
-- Returns rows of queue.message. Raises QL001 topic_not_found, QL004 offset_out_of_range. Locks nothing.
create or replace function queue.browse(
    p_topic text, p_offset bigint default null, p_limit integer default 100, p_max_bytes bigint default 8388608)
returns setof queue.message
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
as $$
declare
    v_topic queue.topics := queue.get_topic(p_topic);
begin
    if p_offset not between v_topic.floor and v_topic.head + 1 then
        perform queue.out_of_range(p_topic, p_offset, v_topic.floor, v_topic.head + 1);
    end if;
    return query
    select * from queue.slice(v_topic.topic_id, coalesce(p_offset, v_topic.floor), p_limit, p_max_bytes);
end
$$;

-- queue.browse_json: what queue.browse returns, as the text that a server sends.
--   as for queue.browse
-- Returns the topic's floor and head, and the messages as JSON objects with commas between them, '' when there are none.
-- Raises as queue.browse. Locks nothing.
create or replace function queue.browse_json(
    p_topic text, p_offset bigint default null, p_limit integer default 100, p_max_bytes bigint default 8388608)
returns table (floor bigint, head bigint, messages text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_topic queue.topics := queue.get_topic(p_topic);
begin
    return query
    select v_topic.floor, v_topic.head, coalesce(string_agg(queue.as_json(m, queue.rfc3339(m.published_at)), ',' order by m."offset"), '')
    from queue.browse(p_topic, p_offset, p_limit, p_max_bytes) m;
end
$$;

-- queue.heads: the heads of some topics, for those who wait for messages.
--   p_topics  the topics' names
-- Returns topic and head for those that exist. Locks nothing.
create or replace function queue.heads(p_topics text[])
returns table (topic text, head bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
    select t.topic, t.head from queue.topics t where t.topic = any (p_topics)
$$;

-- queue.lags: how far behind the subscribers are, for monitoring; the furthest behind first.
--   p_limit  how many at the most
-- Returns topic, subscriber, lag (messages) and lag_seconds (for how long the next message has waited). Locks nothing.
create or replace function queue.lags(p_limit integer default 10000)
returns table (topic text, subscriber text, lag bigint, lag_seconds numeric)
language sql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
    select s.topic, s.subscriber, s.lag, s.lag_seconds from queue.subscribers s order by s.lag desc limit p_limit
$$;

-- queue.count_subscribers: how many subscribers there are in all topics. Locks nothing.
create or replace function queue.count_subscribers()
returns bigint
language sql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
    select count(*) from queue.subscriber s join queue.topic t using (topic_id)
$$;

comment on function queue.last_within is 'Where a run of messages ends that is cut off by number and by size.';
comment on function queue.slice is 'A contiguous run of messages, cut off by number and by size.';
comment on function queue.rfc3339 is 'A time as text.';
comment on function queue.as_json is 'A message as a JSON object.';
comment on function queue.stale_epoch is 'Raises that an epoch is over.';
comment on function queue.read_on is 'From where a subscriber reads.';
comment on function queue.fetch is 'The messages after a subscriber''s position, in order, without a gap. Moves nothing.';
comment on function queue.fetch_json is 'What queue.fetch returns, as the text that a server sends.';
comment on function queue.ack is 'Says that a subscriber is done with everything up to an offset.';
comment on function queue.browse is 'Messages of a topic, read without a subscriber.';
comment on function queue.browse_json is 'What queue.browse returns, as the text that a server sends.';
comment on function queue.heads is 'The heads of some topics, for those who wait for messages.';
comment on function queue.count_subscribers is 'How many subscribers there are in all topics.';
comment on function queue.lags is 'How far behind the subscribers are; the furthest behind first.';
