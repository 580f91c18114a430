-- Replay: reset moves every subscriber of a topic, seek moves one. Both raise the epoch, so that an ack from before
-- cannot silently undo the replay.

-- queue.reset: moves every subscriber of a topic to a position, at once.
--   p_topic      the topic's name
--   p_offset     the position: the last offset already done, floor - 1 to head; 0 replays all
--   p_timestamp  instead: the next message is the first one published at or after it
--   p_dry_run    true: only say what would happen
-- Returns the position and how many subscribers were moved. Raises QL001 topic_not_found, QL004
--   offset_out_of_range, QL009 invalid_request; 40001 at REPEATABLE READ when a subscriber moved meanwhile.
-- Takes the topic's lock, so nobody subscribes meanwhile. No lock a subscriber: their number could overflow
-- Postgres' lock table. Who is moved by an ack under our hands is read again.
create or replace function queue.reset(
    p_topic text, p_offset bigint default null, p_timestamp timestamptz default null, p_dry_run boolean default false,
    out "position" bigint, out subscribers bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_topic_id integer := queue.lock_topic(p_topic);
    v_now      timestamptz := clock_timestamp();
    v_moved    bigint := 0;
    v_rows     bigint;
begin
    "position" := queue.place(p_topic, p_offset, p_timestamp);
    select count(*) into subscribers from queue.subscriber s where s.topic_id = v_topic_id;
    while v_moved < subscribers and not p_dry_run loop
        insert into queue.position (subscriber_id, move, "offset", epoch, moved_at, cause)
        select s.subscriber_id, p.move + 1, reset."position", p.epoch + 1, v_now, 'reset'
        from queue.subscriber s
        cross join lateral (select l.move, l.epoch, l.moved_at, l.cause from queue.position l
                            where l.subscriber_id = s.subscriber_id order by l.move desc limit 1) p
        where s.topic_id = v_topic_id and (p.moved_at, p.cause) <> (v_now, 'reset')
        order by s.subscriber_id
        on conflict do nothing;
        get diagnostics v_rows = row_count;
        v_moved := v_moved + v_rows;
    end loop;
end
$$;

-- queue.seek: moves one subscriber to a position.
--   p_topic, p_subscriber             the topic's name and the subscriber's
--   p_offset, p_timestamp, p_dry_run  as for queue.reset
-- Returns the subscriber's row of queue.subscribers as it is after the move, or would be. Raises QL001
--   topic_not_found, QL002 subscriber_not_found (also when it is deleted while we are at it: another that is made under
--   its name is not moved), QL004 offset_out_of_range, QL009 invalid_request; 40001 at REPEATABLE READ when the
--   subscriber moved meanwhile. Locks no row, as queue.ack.
create or replace function queue.seek(
    p_topic text, p_subscriber text, p_offset bigint default null, p_timestamp timestamptz default null,
    p_dry_run boolean default false)
returns queue.subscribers
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_subscriber_id bigint := (queue.get_subscriber(p_topic, p_subscriber)).subscriber_id;
    v_reader queue.subscribers;
    v_offset bigint := queue.place(p_topic, p_offset, p_timestamp);
    v_moved  boolean := false;
begin
    loop
        -- by its number, and after the place was found: by now its name, and its topic's, may be another's
        select * into v_reader from queue.subscribers s where s.subscriber_id = v_subscriber_id;
        if not found then
            raise exception using errcode = 'QL002',
                message = format('subscriber %L of topic %L was deleted meanwhile', p_subscriber, p_topic);
        end if;
        if v_moved then
            return v_reader;
        end if;
        exit when p_dry_run;
        insert into queue.position (subscriber_id, move, "offset", epoch, cause)
        values (v_subscriber_id, v_reader.move + 1, v_offset, v_reader.epoch + 1, 'seek')
        on conflict do nothing;
        v_moved := found;
    end loop;
    v_reader."position" := v_offset;
    v_reader.epoch := v_reader.epoch + 1;
    v_reader.lag := v_reader.head - v_offset;
    return v_reader;
end
$$;

comment on function queue.reset is 'Moves every subscriber of a topic to a position, at once.';
comment on function queue.seek is 'Moves one subscriber to a position.';
