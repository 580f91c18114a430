-- Lease: messages for one of several workers, for itself alone, until an instant. See 12_leases.sql and 52_ledger.sql.

-- queue.take_up: what of a hold that is due is to be leased.
--   p_topic_id, p_epoch, p_position  the subscriber's topic, and where it is
--   p_ordered, p_max_attempts        its settings
--   p_hold  the hold
--   p_from  up to which of its messages it was taken up before
--   p_time  the time
-- Returns the messages. What is settled is over. What was extended, or may be being settled at this moment, goes on under
-- another hold; what has expired after its last attempt is buried. Raises 40001 as queue.check_ledger. Lock 43 must be held;
-- tries lock 44 of the lease.
create or replace function queue.take_up(p_topic_id integer, p_epoch bigint, p_position bigint, p_ordered boolean,
                                         p_max_attempts integer, p_hold queue.hold, p_from bigint, p_time timestamptz)
returns int8multirange
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_id     bigint := p_hold.subscriber_id;
    v_origin bigint := coalesce(p_hold.origin, p_hold.act);
    v_leased boolean := p_hold.kind in ('l', 'c');
    v_rest   int8multirange := p_hold.offsets;
    v_until  timestamptz;
    v_n      integer;
    v_part   int8multirange;
begin
    if v_leased then
        -- an ack that looked before it expired may be under way: then it is let be, for a moment
        if not pg_try_advisory_xact_lock(queue.lease_key(v_id, v_origin - p_hold.part)) then
            v_until := p_time + interval '250 milliseconds';
        end if;
        select r.rest, case when x.expires_at > p_time then greatest(x.expires_at, v_until) else v_until end, coalesce(x.n, 0)
        into v_rest, v_until, v_n
        from queue.rest(v_id, p_epoch, v_origin, p_hold.offsets) r
        left join lateral (select e.n, e.expires_at from queue.extension e
                           where e.subscriber_id = v_id and e.lease = v_origin - p_hold.part order by e.n desc limit 1) x on true;
    end if;
    v_rest := v_rest * int8multirange(int8range(p_from, null, '()'));
    if isempty(v_rest) then
        return v_rest;
    end if;
    if v_until is not null then
        perform queue.put(v_id, p_epoch, p_position, 'c', p_hold.attempt, p_hold.redriven, v_rest, p_hold.held_at, v_until,
                          p_hold.worker, v_origin, p_hold.part);
        return '{}';
    end if;
    if p_hold.redriven then
        null;
    elsif lower(v_rest) <= p_position then -- a plain ack has passed over them
        v_part := int8multirange(int8range(null, p_position, '(]'));
        if p_ordered then
            perform queue.pass_on(v_id, p_topic_id, p_epoch, p_position, v_rest * v_part);
        end if;
        v_rest := v_rest - v_part;
    end if;
    if not v_leased or isempty(v_rest) then
        return v_rest;
    end if;
    perform queue.check_ledger(v_id, p_epoch, null, v_origin - p_hold.part, v_n + 1, array[v_origin], array[v_rest]);
    if p_ordered and not p_hold.redriven then
        -- of a key only the first one of the lease was tried, if any; it may be in another hold, if that is still there
        v_part := (
            select range_agg(r.rest) - int8multirange(int8range(null, p_position, '(]'))
            from queue.hold f
            cross join lateral (select q.act, q.offsets from queue.hold q
                                where q.subscriber_id = v_id and q.act >= f.act and q.act < f.act + f.parts
                                  and not q.redriven offset 0) h
            cross join lateral queue.rest(v_id, p_epoch, h.act, h.offsets) r
            where f.subscriber_id = v_id and f.act = v_origin - p_hold.part);
        v_part := queue.followers(p_topic_id, v_rest + coalesce(v_part, '{}')) * v_rest;
        if not isempty(v_part) then
            perform queue.settle(v_id, p_epoch, v_origin, v_part, false, 'b');
            perform queue.put(v_id, p_epoch, p_position, 'u', p_hold.attempt - 1, false, v_part, p_time, p_time, p_hold.worker);
            v_rest := v_rest - v_part;
        end if;
    end if;
    if p_hold.attempt >= p_max_attempts then
        perform queue.bury(v_id, p_topic_id, p_epoch, v_origin, p_hold.attempt, p_hold.redriven, p_hold.worker, v_rest, 'expired');
        if p_ordered and not p_hold.redriven then
            perform queue.pass_on(v_id, p_topic_id, p_epoch, p_position, v_rest);
        end if;
        return '{}';
    end if;
    return v_rest;
end
$$;

-- queue.secret: 52 bits by chance. Written so that Postgres inlines it.
create or replace function queue.secret()
returns bigint
language sql volatile
as $$
    select ('x' || right(replace(gen_random_uuid()::text, '-', ''), 13))::bit(52)::bigint
$$;

-- queue.lease_many: leases for several workers of a subscriber, in one call.
--   p_topic, p_subscriber     the topic's name and the subscriber's
--   p_workers, p_limits, p_lease_seconds  for each worker, as for queue.lease
--   p_durable, p_max_bytes    as for queue.lease; the bytes are for all together, but each gets at least one message, and
--                             8 or fewer whatever their size
-- Returns what queue.lease does, and which worker, 1 to n, it is for. Who gets nothing is not there.
-- Raises and locks as queue.lease.
--
-- Holds that are due are taken up first, 200 at the most; then come messages from the frontier on, with order out of 20
-- times as many as are wanted. Without workers only that is moved on for which none is needed: so does queue.tidy.
--
-- Every lease goes through it, and a call of another function costs as much as some ten lines of it do. So it is long, and
-- only what is seldom needed is in functions of its own.
create or replace function queue.lease_many(
    p_topic text, p_subscriber text, p_workers text[], p_limits integer[], p_lease_seconds double precision[],
    p_durable boolean default true, p_max_bytes bigint default 8388608)
returns table (caller integer, lease text, expires_at timestamptz, "offset" bigint, published_at timestamptz, key text,
               headers json, payload json, attempt integer)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_count    constant integer := coalesce(cardinality(p_limits), 0);
    v_share    constant bigint := p_max_bytes / greatest(v_count, 1);
    v_crew     record;
    v_at       record; -- position and epoch
    v_state    record;
    v_act      bigint;
    v_now      timestamptz;
    v_hold     queue.hold;
    v_from     bigint; -- up to where the hold was taken up
    v_rest     int8multirange;
    v_alone    boolean;
    v_looked   integer := 0;
    v_expired  integer := 0;
    v_caller   integer := 1;
    v_limit    bigint := least(p_limits[1], 10000);
    v_left     bigint := v_limit; -- how many more the caller takes
    v_has      int8multirange := '{}'; -- what it has
    v_bytes    bigint := 0; -- of what it has, if they matter: 8 messages never have too many
    v_take     record;
    v_last     bigint;
    v_heavy    boolean := false; -- whether bytes matter at the frontier
    v_turned   boolean := false; -- whether messages were parked
    v_secret   bigint;
    -- what is leased: to whom, as which attempt, whether it was redriven
    v_callers  integer[] := '{}';
    v_attempts integer[] := '{}';
    v_redriven boolean[] := '{}';
    v_parts    int8multirange[] := '{}';
begin
    for n in 1 .. v_count loop
        if (p_limits[n] >= 1) is not true then
            raise exception using errcode = 'QL009', message = 'a lease takes 1 message or more';
        end if;
        if (p_lease_seconds[n] between 0.001 and 43200 and coalesce(length(p_workers[n]), 0) <= 200) is not true then
            perform queue.check_worker(p_workers[n], p_lease_seconds[n]);
        end if;
    end loop;
    if not p_durable then
        perform set_config('synchronous_commit', 'off', true); -- until the commit, where a SET clause would end too soon
    end if;
    select c.* into v_crew from queue.crew_of(p_topic, p_subscriber) c;
    if not found then
        perform queue.missing(p_topic, coalesce(p_subscriber, ''));
    end if;
    perform pg_advisory_xact_lock(43, queue.crew_key(v_crew.id));
    v_at := queue.advance(v_crew.id, 1000);
    select t.floor, t.head, s.* into v_state
    from queue.topics t
    cross join lateral queue.ledger(v_crew.id, v_at.epoch, v_at."position") s
    where t.topic_id = v_crew.topic_id;
    if not found or v_at.epoch is null then
        perform queue.missing(p_topic, p_subscriber);
    end if;
    if v_at."position" + 1 < v_state.floor and v_count > 0 then
        perform queue.out_of_range(p_topic, v_at."position" + 1, v_state.floor, v_state.head);
    end if;
    v_act := v_state.act;
    v_now := greatest(clock_timestamp(), v_state.cursor_due);

    for v_hold in
        select h.* from queue.hold h
        where h.subscriber_id = v_crew.id and h.epoch = v_at.epoch and h.due_at <= v_now
          and (h.due_at, h.act) >= (v_state.cursor_due, v_state.cursor_act)
        order by h.due_at, h.act limit 200
    loop
        v_from := case when v_hold.act = v_state.cursor_act then v_state.cursor_offset else 0 end;
        continue when v_from is null;
        v_rest := '{}';
        if v_hold.redriven or v_crew.ordered or upper(v_hold.offsets) > v_at."position" + 1 then
            -- so many locks at the most; queue.tidy comes for a hundred subscribers in one transaction
            exit when v_expired = case v_count when 0 then 20 else 100 end or v_caller > v_count and v_count > 0;
            v_expired := v_expired + 1;
            v_rest := queue.take_up(v_crew.topic_id, v_at.epoch, v_at."position", v_crew.ordered, v_crew.max_attempts,
                                    v_hold, v_from, v_now);
        end if;
        -- what an expiry, not a nack, has brought to its last attempt may kill its worker: it is leased alone
        v_alone := v_hold.kind in ('l', 'c', 'u') and v_hold.attempt > 0 and v_hold.attempt + 1 >= v_crew.max_attempts;
        while not isempty(v_rest) and v_caller <= v_count loop
            if v_left > 0 and (not v_alone or isempty(v_has)) then
                if v_crew.ordered and not v_hold.redriven then
                    v_take := queue.take_turns(v_crew.id, v_crew.topic_id, v_at.epoch, v_at."position", v_rest, v_hold.attempt,
                                               case when v_alone then 1 else v_left end,
                                               case when v_limit > 8 then v_share - v_bytes end, v_has);
                    v_turned := true;
                else
                    v_take := queue.take_first(v_crew.topic_id, v_state.floor, v_rest, v_hold.attempt,
                                               case when v_alone then 1 else v_left end,
                                               case when v_limit > 8 then v_share - v_bytes end, v_has);
                end if;
                for n in 1 .. coalesce(cardinality(v_take.parts), 0) loop
                    v_callers := v_callers || v_caller;
                    v_attempts := v_attempts || (v_take.attempts[n] + 1);
                    v_redriven := v_redriven || v_hold.redriven;
                    v_parts := v_parts || v_take.parts[n];
                    v_has := v_has + v_take.parts[n];
                    v_left := v_left - queue.size_of(v_take.parts[n]);
                end loop;
                v_bytes := v_bytes + v_take.bytes;
                if v_take.upto is not null then
                    v_from := v_take.upto;
                    v_rest := v_rest * int8multirange(int8range(v_from, null, '()'));
                end if;
            end if;
            if not isempty(v_rest) or v_alone and not isempty(v_has) or v_left <= 0 then -- on to the next worker
                v_caller := v_caller + 1;
                v_limit := least(p_limits[v_caller], 10000);
                v_left := v_limit;
                v_has := '{}';
                v_bytes := 0;
            end if;
        end loop;
        if isempty(v_rest) then
            v_from := null;
            v_looked := v_looked + 1;
        end if;
        if v_from is distinct from 0 then
            v_state.cursor_due := v_hold.due_at;
            v_state.cursor_act := v_hold.act;
            v_state.cursor_offset := v_from;
        end if;
        exit when not isempty(v_rest);
    end loop;

    if v_caller <= v_count and v_state.frontier < v_state.head then
        v_last := v_left;
        if v_caller < v_count then
            v_last := v_last + (select sum(least(l, 10000)) from unnest(p_limits[v_caller + 1:]) l);
        end if;
        v_heavy := v_last > 8 and 8 < any (p_limits[v_caller:]) and (v_bytes > 0 or v_crew.ordered or queue.last_within(
            v_crew.topic_id, v_state.frontier + 1, least(v_last, 1000000)::integer, p_max_bytes)
            < least(v_state.frontier + v_last, v_state.head));
    end if;
    while v_caller <= v_count and v_state.frontier < v_state.head loop
        v_last := least(v_state.frontier + v_left * case when v_crew.ordered then 20 else 1 end, v_state.head);
        if v_heavy and v_limit > 8 then
            exit when v_share <= v_bytes and not isempty(v_has);
            v_last := least(v_last, queue.last_within(v_crew.topic_id, v_state.frontier + 1,
                                                      (v_last - v_state.frontier)::integer, v_share - v_bytes));
        end if;
        if v_crew.ordered then
            v_take := queue.pass_over(v_crew.id, v_crew.topic_id, v_at.epoch, v_at."position", v_state.frontier + 1, v_last,
                                      v_left, v_has);
            v_rest := v_take.part;
            v_last := v_take.upto;
            v_turned := true;
        else
            v_rest := int8multirange(int8range(v_state.frontier + 1, v_last, '[]'));
        end if;
        v_state.frontier := v_last;
        if not isempty(v_rest) then
            v_callers := v_callers || v_caller;
            v_attempts := v_attempts || 1;
            v_redriven := v_redriven || false;
            v_parts := v_parts || v_rest;
        end if;
        v_caller := v_caller + 1;
        v_limit := least(p_limits[v_caller], 10000);
        v_left := v_limit;
        v_has := '{}';
        v_bytes := 0;
    end loop;

    if v_expired > 0 then
        v_act := (select max(h.act) from queue.hold h where h.subscriber_id = v_crew.id);
    end if;
    if cardinality(v_parts) = 0 and (v_looked = 0 or v_looked < 100 and v_count > 0) and not v_turned
       and v_act = v_state.act then
        return;
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform queue.try_ledger(v_crew.id, v_at.epoch, v_act + 1, null, null, '{}', '{}');
    end if;
    if cardinality(v_parts) <= 1 and v_redriven[1] is not true then -- as it mostly is; or none, and only the state is kept
        v_secret := queue.secret();
        v_caller := v_callers[1];
        insert into queue.hold (subscriber_id, act, epoch, secret, held_at, due_at, frontier, redeliveries, cursor_due,
                                cursor_act, cursor_offset, attempt, part, parts, kind, redriven, worker, offsets)
        values (v_crew.id, v_act + 1, v_at.epoch, v_secret, v_now,
                coalesce(v_now + make_interval(secs => p_lease_seconds[v_caller]), '-infinity'), v_state.frontier,
                v_state.redeliveries + case when v_attempts[1] > 1 then queue.size_of(v_parts[1]) else 0 end,
                v_state.cursor_due, v_state.cursor_act, v_state.cursor_offset, coalesce(v_attempts[1], 0), 0, 1,
                case when v_caller is null then 'i' else 'l' end::"char", coalesce(v_redriven[1], false), p_workers[v_caller],
                coalesce(v_parts[1], '{}'));
        if v_caller is not null then
            return query
            select v_caller, v_act + 1 || '-' || v_secret, v_now + make_interval(secs => p_lease_seconds[v_caller]),
                   m."offset", m.published_at, m.key, m.headers, m.payload, v_attempts[1]
            from unnest(v_parts[1]) u
            cross join lateral (select l."offset", l.published_at, l.key, l.headers, l.payload from queue.message l
                                where l.topic_id = v_crew.topic_id and l."offset" >= lower(u) and l."offset" < upper(u)
                                order by l."offset") m;
        end if;
        return;
    end if;
    return query
    select l.* from queue.make_leases(
        v_crew.id, v_crew.topic_id, v_at.epoch, v_state.floor, v_act, v_now, v_state.frontier, v_state.redeliveries,
        v_state.cursor_due, v_state.cursor_act, v_state.cursor_offset, p_workers, p_lease_seconds, v_callers, v_attempts,
        v_redriven, v_parts) l;
end
$$;

-- queue.make_leases: makes the holds of several leases, one for each attempt number in each, and reads their messages.
--   p_id, p_topic_id, p_epoch, p_floor  the subscriber, its topic, its epoch, and the topic's floor
--   p_act, p_time, p_frontier, p_redeliveries, p_cursor_due, p_cursor_act, p_cursor_offset  its state
--   p_workers, p_lease_seconds  as for queue.lease_many
--   p_callers, p_attempts, p_redriven, p_parts  what is leased: to whom, as which attempt, whether it was redriven
-- Returns what queue.lease_many does. Lock 43 must be held.
create or replace function queue.make_leases(
    p_id bigint, p_topic_id integer, p_epoch bigint, p_floor bigint, p_act bigint, p_time timestamptz, p_frontier bigint,
    p_redeliveries bigint, p_cursor_due timestamptz, p_cursor_act bigint, p_cursor_offset bigint, p_workers text[],
    p_lease_seconds double precision[], p_callers integer[], p_attempts integer[], p_redriven boolean[],
    p_parts int8multirange[])
returns table (caller integer, lease text, expires_at timestamptz, "offset" bigint, published_at timestamptz, key text,
               headers json, payload json, attempt integer)
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_secrets constant bigint[] := array(select queue.secret() from unnest(p_lease_seconds));
begin
    return query
    with part as materialized (
        select g.caller, g.attempt, g.redriven, range_agg(g.part) as offsets,
               row_number() over (order by g.caller, g.attempt, g.redriven) as n,
               row_number() over (partition by g.caller order by g.attempt, g.redriven) as m,
               count(*) over (partition by g.caller) as parts,
               p_time + make_interval(secs => p_lease_seconds[g.caller]) as expires_at
        from unnest(p_callers, p_attempts, p_redriven, p_parts) g(caller, attempt, redriven, part)
        group by 1, 2, 3
    ), hold as (
        insert into queue.hold (subscriber_id, act, epoch, secret, held_at, due_at, frontier, redeliveries, cursor_due,
                                cursor_act, cursor_offset, attempt, part, parts, kind, redriven, worker, offsets)
        select p_id, p_act + p.n, p_epoch, v_secrets[p.caller], p_time, p.expires_at, p_frontier,
               p_redeliveries + coalesce((select sum(upper(u) - lower(u)) from part r cross join lateral unnest(r.offsets) u
                                          where r.attempt > 1), 0),
               p_cursor_due, p_cursor_act, p_cursor_offset, p.attempt, p.m - 1, p.parts, 'l', p.redriven,
               p_workers[p.caller], p.offsets
        from part p
    )
    select p.caller, p_act + p.n - p.m + 1 || '-' || v_secrets[p.caller], p.expires_at, m."offset", m.published_at, m.key,
           m.headers, m.payload, p.attempt
    from part p
    cross join lateral unnest(p.offsets) u
    cross join lateral (
        select l."offset", l.published_at, l.key, l.headers, l.payload from queue.message l
        where l.topic_id = p_topic_id and l."offset" >= lower(u) and l."offset" < upper(u)
        union all -- redriven, and no longer in the log
        select d."offset", d.published_at, d.key, d.headers, d.payload from queue.dead d
        where p.redriven and d.subscriber_id = p_id and d."offset" >= lower(u) and d."offset" < least(upper(u), p_floor)
        offset 0) m
    order by p.caller, m."offset";
end
$$;

-- queue.take_first: takes of a hold that is due what comes first.
--   p_topic_id, p_floor   the subscriber's topic, and its floor
--   p_offsets, p_attempt  what the hold has left, and how often that was leased
--   p_left, p_max_bytes   how many to take at the most; how many bytes, but at least one if nothing was taken; null: any
--   p_taken               what the same lease has taken already
-- Returns what queue.take_turns does. Locks nothing.
create or replace function queue.take_first(
    p_topic_id integer, p_floor bigint, p_offsets int8multirange, p_attempt integer, p_left bigint, p_max_bytes bigint,
    p_taken int8multirange, out attempts integer[], out parts int8multirange[], out upto bigint, out bytes bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_part int8multirange;
begin
    -- those that only the dead letters have a copy of are not weighed
    select f.part, f.bytes into v_part, bytes
    from queue.first_of(p_topic_id, p_offsets, case when lower(p_offsets) < p_floor then least(p_left, 8) else p_left end,
                        case when lower(p_offsets) < p_floor then null else p_max_bytes end) f;
    if isempty(v_part) and isempty(p_taken) then
        select f.part, f.bytes into v_part, bytes from queue.first_of(p_topic_id, p_offsets, 1, 9223372036854775807) f;
    end if;
    if not isempty(v_part) then
        attempts := array[p_attempt];
        parts := array[v_part];
        upto := upper(v_part) - 1;
    end if;
end
$$;

-- queue.lease: messages for one worker, for itself alone, until an instant.
--   p_topic, p_subscriber  the topic's name and the subscriber's
--   p_worker         whose they are, for people to see: up to 200 characters, or null. No claim goes with it
--   p_limit          how many at the most; more than 10,000 are as 10,000
--   p_lease_seconds  for how long: 0.001 to 43,200
--   p_durable        false: the commit of this transaction, with all that is in it, waits for no disk. A lease that a crash
--                    of the database loses is unknown afterwards, and its messages are leased again for the same attempt
--   p_max_bytes      how many bytes at the most, but at least one message; who wants 8 or fewer gets them whatever their size
-- Returns the lease's id and when it expires with each message, in offset order, and which attempt it is.
--   No rows: there is nothing to do, and mostly nothing was written; queue.next_due says when there may be. First come those
--   that were given back, redriven, or not acknowledged in time. What an expired lease has brought to its last attempt is
--   leased alone, so that it takes no others with it.
-- Raises QL001 topic_not_found, QL002 subscriber_not_found, QL004 offset_out_of_range (the next message is no longer kept),
--   QL009 invalid_request; 40001 when the caller's REPEATABLE READ snapshot is older than what was done to the subscriber's
--   leases: roll back and try again.
-- Takes lock 43 of the subscriber until the transaction ends: another lease of it waits. To work on messages in one
-- transaction with their lease and ack is to do so exactly once; the others wait meanwhile.
create or replace function queue.lease(
    p_topic text, p_subscriber text, p_worker text default null, p_limit integer default 1,
    p_lease_seconds double precision default 30, p_durable boolean default true, p_max_bytes bigint default 8388608)
returns table (lease text, expires_at timestamptz, "offset" bigint, published_at timestamptz, key text, headers json,
               payload json, attempt integer)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    return query
    select l.lease, l.expires_at, l."offset", l.published_at, l.key, l.headers, l.payload, l.attempt
    from queue.lease_many(p_topic, p_subscriber, array[p_worker], array[p_limit], array[p_lease_seconds], p_durable,
                          p_max_bytes) l;
end
$$;

-- queue.leased_json: a message of a lease as a JSON object. Written so that Postgres inlines it.
create or replace function queue.leased_json(p_offset bigint, p_published_at timestamptz, p_key text, p_headers json,
                                             p_attempt integer, p_payload json)
returns text
language sql stable
as $$
    select concat('{"offset":', p_offset, ',"published_at":"', to_char(p_published_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                  '"', ',"key":' || to_json(p_key)::text, ',"headers":' || p_headers::text, ',"attempt":', p_attempt,
                  ',"payload":', p_payload, '}')
$$;

-- queue.lease_json: what queue.lease_many returns, as the text that a server sends.
--   as for queue.lease_many
-- Returns for each worker, in order, its lease, when that expires, its messages as JSON objects with commas between them;
--   and null, null, '' when there are none. Then due_seconds says after how many seconds there may be some even if nobody
--   publishes anything: 0 for at once, null for never. Raises and locks as queue.lease.
create or replace function queue.lease_json(
    p_topic text, p_subscriber text, p_workers text[], p_limits integer[], p_lease_seconds double precision[],
    p_durable boolean default true, p_max_bytes bigint default 8388608)
returns table (lease text, expires_at timestamptz, messages text, due_seconds double precision)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_waiting boolean := false;
    v_due     double precision;
begin
    for lease, expires_at, messages in
        select max(l.lease), max(l.expires_at),
               coalesce(string_agg(queue.leased_json(l."offset", l.published_at, l.key, l.headers, l.attempt, l.payload), ','
                                   order by l."offset") filter (where l.caller is not null), '')
        from generate_series(1, cardinality(p_limits)) n
        left join queue.lease_many(p_topic, p_subscriber, p_workers, p_limits, p_lease_seconds, p_durable, p_max_bytes) l
            on l.caller = n
        group by n order by n
    loop
        due_seconds := null;
        if messages = '' then
            if not v_waiting then
                v_waiting := true;
                v_due := extract(epoch from queue.next_due(p_topic, p_subscriber) - clock_timestamp());
                v_due := case when v_due < 0 then 0 else v_due end;
            end if;
            due_seconds := v_due;
        end if;
        return next;
    end loop;
end
$$;

-- queue.next_due: when a worker may find something to do even if nobody publishes anything.
--   p_topic, p_subscriber  the topic's name and the subscriber's
-- Returns when the first lease expires that has something left, or the first delay is over; a time that has passed when there
--   is something at once, or only more to look through; null when there is nothing.
-- Raises QL001 topic_not_found, QL002 subscriber_not_found. Locks nothing.
create or replace function queue.next_due(p_topic text, p_subscriber text)
returns timestamptz
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_crew  record;
    v_at    record;
    v_state record;
begin
    select c.* into v_crew from queue.crew_of(p_topic, p_subscriber) c;
    select s."position", s.epoch, s.head into v_at from queue.subscribers s
    where s.topic_id = v_crew.topic_id and s.subscriber_id = v_crew.id;
    if not found then
        perform queue.missing(p_topic, coalesce(p_subscriber, ''));
    end if;
    select s.* into v_state from queue.ledger(v_crew.id, v_at.epoch, v_at."position") s;
    if v_state.frontier < v_at.head then
        return clock_timestamp();
    end if;
    return (
        -- an extended one may end after what comes behind those looked at
        select least(min(greatest(h.due_at, x.expires_at)) filter (where not isempty(r.rest * c.clip)),
                     case when count(*) = 200 then max(h.due_at) end)
        from (select q.*, coalesce(q.origin, q.act) as under from queue.hold q
              where q.subscriber_id = v_crew.id and q.epoch = v_at.epoch
                and (q.due_at, q.act) >= (v_state.cursor_due, v_state.cursor_act)
                and (q.act <> v_state.cursor_act or v_state.cursor_offset is not null)
              order by q.due_at, q.act limit 200) h
        left join lateral (select e.expires_at from queue.extension e
                           where h.kind in ('l', 'c') and e.subscriber_id = v_crew.id and e.lease = h.under - h.part
                           order by e.n desc limit 1) x on true
        cross join lateral queue.rest(v_crew.id, v_at.epoch, h.under, h.offsets) r
        cross join lateral (select int8multirange(int8range(greatest(
            case when h.act = v_state.cursor_act then v_state.cursor_offset else 0 end,
            case when h.redriven then 0 else v_at."position" end), null, '()')) as clip) c);
end
$$;

comment on function queue.take_up is 'What of a hold that is due is to be leased.';
comment on function queue.take_first is 'Takes of a hold what comes first.';
comment on function queue.secret is '52 bits by chance.';
comment on function queue.make_leases is 'Makes the holds of several leases, and reads their messages.';
comment on function queue.lease_many is 'Leases for several workers of a subscriber, in one call.';
comment on function queue.lease is 'Messages for one worker, for itself alone, until an instant.';
comment on function queue.leased_json is 'A message of a lease as a JSON object.';
comment on function queue.lease_json is 'What queue.lease_many returns, as the text that a server sends.';
comment on function queue.next_due is 'When a worker may find something to do even if nobody publishes anything.';
