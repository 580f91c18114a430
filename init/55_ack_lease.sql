-- What a worker does with its lease: ack, nack, extend.

-- queue.ack_leases: says that messages of several leases are done, all or none.
--   p_topic, p_subscriber  the topic's name and the subscriber's
--   p_leases   the leases' ids
--   p_offsets  a JSON array with an element for each lease: an array of offsets, or null for all that it holds; null: all
-- Returns for each lease, in order, how many messages were done by this call, and position, epoch, head and lag as they are
--   now. Raises and locks as queue.ack_lease; locks of leases are taken in one order, whoever acknowledges.
create or replace function queue.ack_leases(p_topic text, p_subscriber text, p_leases text[], p_offsets json default null)
returns table (acked bigint, "position" bigint, epoch bigint, head bigint, lag bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_crew  record;
    v_held  record;
    v_asked int8multirange;
    v_acked bigint[] := '{}';
    v_count bigint;
    v_mine  int8multirange;
    v_sorted int8multirange; -- what of a lease has an order
begin
    select c.* into v_crew from queue.crew_of(p_topic, p_subscriber) c;
    if not found then
        perform queue.missing(p_topic, coalesce(p_subscriber, ''));
    end if;
    if v_crew.ordered then
        perform pg_advisory_xact_lock(43, queue.crew_key(v_crew.id));
    end if;
    if cardinality(p_leases) = 1 then
        perform pg_advisory_xact_lock(queue.lease_key(v_crew.id, queue.act_of(p_leases[1])));
    else
        perform pg_advisory_xact_lock(queue.lease_key(v_crew.id, l.act))
        from (select queue.act_of(l) as act from unnest(p_leases) l group by 1 order by 1) l;
    end if;
    for n in 1 .. coalesce(cardinality(p_leases), 0) loop
        v_asked := case when p_offsets is not null then queue.set_of(queue.offsets_of(p_offsets -> (n - 1))) end;
        v_held := queue.held(v_crew.id, p_leases[n], v_asked);
        -- the same ack again is fine; of what was given back it is not, nor of nothing
        if not isempty(v_held.gone) and (v_asked is not null or isempty(v_held.rest)) then
            perform queue.check_done(v_crew.id, v_held.epoch, v_held.acts, v_held.gone, v_asked is not null);
        end if;
        if v_crew.ordered then
            select coalesce(range_agg(h.rest), '{}') into v_sorted
            from unnest(v_held.redriven, v_held.rests) h(redriven, rest) where not h.redriven;
            perform queue.check_front(v_crew.topic_id, v_sorted, v_held.part * v_sorted);
        end if;
        v_count := 0;
        for m in 1 .. cardinality(v_held.acts) loop
            v_mine := v_held.rests[m] * v_held.part;
            continue when isempty(v_mine);
            if v_mine = int8multirange(range_merge(v_mine)) then -- one range, as it mostly is
                insert into queue.settled (subscriber_id, epoch, first, last, act, counts, outcome)
                values (v_crew.id, v_held.epoch, lower(v_mine), upper(v_mine) - 1, v_held.acts[m], not v_held.redriven[m], 'd');
                v_count := v_count + upper(v_mine) - lower(v_mine);
            else
                perform queue.settle(v_crew.id, v_held.epoch, v_held.acts[m], v_mine, not v_held.redriven[m], 'd');
                v_count := v_count + queue.size_of(v_mine);
            end if;
        end loop;
        v_acked := v_acked || v_count;
        if true = any (v_held.redriven) then
            perform queue.bring_back(v_crew.id, v_held.acts, v_held.redriven, v_held.rests, v_held.part);
        end if;
        if v_crew.ordered and not isempty(v_held.part * v_sorted) then
            perform queue.pass_on(v_crew.id, v_crew.topic_id, v_held.epoch, v_held."position", v_held.part * v_sorted);
        end if;
    end loop;
    v_held := queue.advance(v_crew.id, 1000);
    return query
    select a, v_held."position", v_held.epoch, t.head, t.head - v_held."position"
    from unnest(v_acked) a, queue.topics t where t.topic_id = v_crew.topic_id;
    if not found and cardinality(v_acked) > 0 then
        perform queue.missing(p_topic, p_subscriber); -- it was deleted meanwhile
    end if;
end
$$;

-- queue.ack_lease: says that messages of a lease are done.
--   p_topic, p_subscriber  the topic's name and the subscriber's
--   p_lease    the lease's id
--   p_offsets  which messages; null: all that it holds
-- Returns how many were done by this call, and position, epoch, head and lag as they are now. The same ack again does 0, also
--   after the lease has expired. The position moves over all that is done or dead in a row; it may trail for a moment when
--   several acks are under way, it never leads.
-- Raises QL001 topic_not_found, QL002 subscriber_not_found, QL009 invalid_request (the lease never held one of these), QL010
--   lease_expired (it has expired, or is unknown, or was given back, or is from before a reset or seek), QL011 key_order (it
--   holds an earlier message of the same key); then nothing was done. 40001 at REPEATABLE READ, as queue.lease.
-- Takes lock 44 of the lease until the transaction ends: while it is held no other worker gets the messages. With order, lock
-- 43 of the subscriber before it.
create or replace function queue.ack_lease(
    p_topic text, p_subscriber text, p_lease text, p_offsets bigint[] default null,
    out acked bigint, out "position" bigint, out epoch bigint, out head bigint, out lag bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    select a.* into acked, "position", epoch, head, lag
    from queue.ack_leases(p_topic, p_subscriber, array[p_lease],
                          case when p_offsets is not null then json_build_array(p_offsets) end) a;
end
$$;

-- queue.offsets_of: a JSON array of offsets as an array; null for null. Locks nothing.
-- Raises QL009 invalid_request when it is something else.
create or replace function queue.offsets_of(p_offsets json)
returns bigint[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    if json_typeof(p_offsets) = 'null' then
        return null;
    end if;
    if json_typeof(p_offsets) is distinct from 'array'
       or exists (select from json_array_elements(p_offsets) o where o::text !~ '^[0-9]{1,18}$') then
        raise exception using errcode = 'QL009', message = 'these are no offsets';
    end if;
    return array(select o::text::bigint from json_array_elements(p_offsets) o);
end
$$;

-- queue.check_done: refuses an ack of what was given back under the same lease.
--   p_id, p_epoch, p_acts  the subscriber, its epoch, and the lease's holds
--   p_gone  what was asked for, and is settled
--   p_all   true: all of it has to be done; false: something is enough
-- Raises QL010 lease_expired. Locks nothing.
create or replace function queue.check_done(p_id bigint, p_epoch bigint, p_acts bigint[], p_gone int8multirange, p_all boolean)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
declare
    v_done int8multirange;
begin
    -- a range that was done as one may begin before what is asked for, by no more than a lease has messages
    select coalesce(range_agg(int8range(s.first, s.last, '[]')), '{}') into v_done
    from unnest(p_gone) u
    cross join lateral (select q.first, q.last from queue.settled q
                        where q.subscriber_id = p_id and q.epoch = p_epoch and q.counts in (false, true)
                          and q.first >= lower(u) - 9999 and q.first < upper(u) and q.act = any (p_acts)
                          and q.outcome = 'd' offset 0) s;
    if not (v_done @> p_gone or not p_all and v_done && p_gone) then
        perform queue.lease_expired('has given these back');
    end if;
end
$$;

-- queue.bring_back: forgets the dead letters that were redriven and are done now.
--   p_id  the subscriber
--   p_acts, p_redriven, p_rests  the holds of a lease
--   p_part  what of it is done
create or replace function queue.bring_back(p_id bigint, p_acts bigint[], p_redriven boolean[], p_rests int8multirange[],
                                            p_part int8multirange)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
begin
    delete from queue.dead d
    using unnest(p_acts, p_redriven, p_rests) h(act, redriven, rest)
    cross join lateral unnest(h.rest * p_part) u
    where h.redriven and d.subscriber_id = p_id and d."offset" >= lower(u) and d."offset" < upper(u);
end
$$;

-- queue.backoff: after how many seconds a message is due again that was given back.
--   p_attempt, p_base, p_cap  how often it was leased; the delay after the first time, which doubles each time; and the longest
-- Returns half of that to all of it, by chance, so that what failed together does not come back together. Locks nothing.
create or replace function queue.backoff(p_attempt integer, p_base double precision, p_cap double precision)
returns double precision
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    return least(p_cap, p_base * 2 ^ least(p_attempt - 1, 40)) * (0.5 + random() / 2);
end
$$;

-- queue.nack: gives messages of a lease back.
--   p_topic, p_subscriber, p_lease, p_offsets  as for queue.ack_lease
--   p_delay_seconds  after how many seconds another attempt is due, 0 to 604,800; null: as queue.backoff says
--   p_error    why, in the worker's words, of which 10,000 characters are kept
--   p_untried  true: nobody has tried them; they are due at once, this attempt does not count, and none is a dead letter
--   p_durable  as for queue.lease
-- Returns how many were given back, and how many are dead letters now, since this was their last attempt. What was settled
--   before is not counted. With order, what the lease holds of the same keys behind them goes back as well, untried.
-- Raises as queue.ack_lease. Takes lock 43 of the subscriber, then lock 44 of the lease, until the transaction ends.
create or replace function queue.nack(
    p_topic text, p_subscriber text, p_lease text, p_offsets bigint[] default null,
    p_delay_seconds double precision default null, p_error text default null, p_untried boolean default false,
    p_durable boolean default true, out nacked bigint, out dead bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_crew   record;
    v_held   record;
    v_behind int8multirange := '{}';
    v_over   int8multirange := '{}';
    v_mine   int8multirange;
    v_error  text := left(p_error, 10000);
    v_sorted int8multirange := '{}'; -- what of the lease has an order
begin
    if p_untried is null then
        raise exception using errcode = 'QL009', message = 'untried is true or false';
    end if;
    if not coalesce(p_delay_seconds between 0 and 604800, true) then
        raise exception using errcode = 'QL009', message = 'a delay is 0 to 604800 seconds';
    end if;
    if not p_durable then
        perform set_config('synchronous_commit', 'off', true);
    end if;
    select c.* into v_crew from queue.crew_of(p_topic, p_subscriber) c;
    if not found then
        perform queue.missing(p_topic, coalesce(p_subscriber, ''));
    end if;
    perform pg_advisory_xact_lock(43, queue.crew_key(v_crew.id));
    perform pg_advisory_xact_lock(queue.lease_key(v_crew.id, queue.act_of(p_lease)));
    v_held := queue.held(v_crew.id, p_lease, queue.set_of(p_offsets));
    nacked := 0;
    dead := 0;
    if v_crew.ordered then
        select coalesce(range_agg(h.rest), '{}') into v_sorted
        from unnest(v_held.redriven, v_held.rests) h(redriven, rest) where not h.redriven;
        if not p_untried then
            perform queue.check_front(v_crew.topic_id, v_sorted, v_held.part * v_sorted);
        end if;
        v_behind := queue.followers(v_crew.topic_id, v_sorted, v_held.part * v_sorted);
    end if;
    for n in 1 .. cardinality(v_held.acts) loop
        v_mine := v_held.rests[n] * v_held.part;
        if isempty(v_mine) then
            null;
        elsif not p_untried and v_held.attempts[n] >= v_crew.max_attempts then
            perform queue.bury(v_crew.id, v_crew.topic_id, v_held.epoch, v_held.acts[n], v_held.attempts[n],
                               v_held.redriven[n], v_held.worker, v_mine, 'nacked', v_error);
            dead := dead + queue.size_of(v_mine);
            v_over := v_over + v_mine;
        else
            perform queue.settle(v_crew.id, v_held.epoch, v_held.acts[n], v_mine, false, 'b', v_error);
            perform queue.put(
                v_crew.id, v_held.epoch, v_held."position", case when p_untried then 'u' else 'r' end::"char",
                v_held.attempts[n] - p_untried::integer, v_held.redriven[n], v_mine, v_held."time",
                case when p_untried then v_held."time" else v_held."time" + make_interval(secs => coalesce(p_delay_seconds,
                    queue.backoff(v_held.attempts[n], v_crew.backoff_seconds, v_crew.backoff_cap_seconds))) end, v_held.worker);
            nacked := nacked + queue.size_of(v_mine);
        end if;
        v_mine := v_held.rests[n] * v_behind;
        if not isempty(v_mine) then
            perform queue.settle(v_crew.id, v_held.epoch, v_held.acts[n], v_mine, false, 'b');
            perform queue.put(v_crew.id, v_held.epoch, v_held."position", 'u', v_held.attempts[n] - 1, false, v_mine,
                              v_held."time", v_held."time", v_held.worker);
        end if;
    end loop;
    v_over := v_over * v_sorted;
    if not isempty(v_over) then
        perform queue.pass_on(v_crew.id, v_crew.topic_id, v_held.epoch, v_held."position", v_over);
    end if;
    if dead > 0 then
        perform queue.advance(v_crew.id, 1000);
    end if;
end
$$;

-- queue.extend: holds what is left of a lease for longer.
--   p_topic, p_subscriber, p_lease  as for queue.ack_lease
--   p_lease_seconds  for how long from now on; it never expires earlier than it did
--   p_durable        as for queue.lease
-- Returns when it expires. Raises as queue.ack_lease; QL010 lease_expired also when nothing is left of it. Takes lock 44 of
-- the lease until the transaction ends.
create or replace function queue.extend(p_topic text, p_subscriber text, p_lease text, p_lease_seconds double precision,
                                        p_durable boolean default true, out expires_at timestamptz)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_crew record;
    v_held record;
begin
    perform queue.check_worker(null, p_lease_seconds);
    if not p_durable then
        perform set_config('synchronous_commit', 'off', true);
    end if;
    select c.* into v_crew from queue.crew_of(p_topic, p_subscriber) c;
    if not found then
        perform queue.missing(p_topic, coalesce(p_subscriber, ''));
    end if;
    perform pg_advisory_xact_lock(queue.lease_key(v_crew.id, queue.act_of(p_lease)));
    v_held := queue.held(v_crew.id, p_lease, null);
    if isempty(v_held.rest) then
        perform queue.lease_expired('holds nothing any more');
    end if;
    expires_at := greatest(v_held."time" + make_interval(secs => p_lease_seconds), v_held.expires_at);
    insert into queue.extension (subscriber_id, lease, n, expires_at)
    values (v_crew.id, v_held.lease, v_held.extensions + 1, extend.expires_at);
end
$$;

comment on function queue.ack_leases is 'Says that messages of several leases are done, all or none.';
comment on function queue.ack_lease is 'Says that messages of a lease are done.';
comment on function queue.offsets_of is 'A JSON array of offsets as an array.';
comment on function queue.check_done is 'Refuses an ack of what was given back under the same lease.';
comment on function queue.bring_back is 'Forgets the dead letters that were redriven and are done now.';
comment on function queue.backoff is 'After how many seconds a message is due again that was given back.';
comment on function queue.nack is 'Gives messages of a lease back.';
comment on function queue.extend is 'Holds what is left of a lease for longer.';
