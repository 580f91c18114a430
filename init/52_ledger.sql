-- The ledger of the workers: what the functions on leases have in common. See 12_leases.sql for its idea.
--
-- Locks, all advisory and held to the end of the transaction:
--   43 + subscriber   lease, nack, redrive, with order ack too: makes acts dense, and the cursor one session's at a time
--   44 + lease        ack, nack, extend; lease() tries it before it takes over what has expired: an ack under way is let be
--   45 + subscriber   only tried: who gets it moves the position; what the others leave moves with the next call
-- Reset and seek take none: what was leased in an earlier epoch is void.
--
-- Time never goes back: it is the clock's, or the cursor's if that is later. So a clock that is set back revives no lease
-- whose messages another one has.

-- Plans are kept, and made from an index whatever the statistics say: a ledger that was small at the first call soon is not.
-- None is compiled: a set of offsets looks like so many rows that Postgres would, for a quarter of a second.

-- queue.crew_key: the lock of a subscriber's work, to take with 43 or 45. Written so that Postgres inlines it.
create or replace function queue.crew_key(p_id bigint)
returns integer
language sql immutable
as $$
    select (p_id % 2147483647)::integer
$$;

-- queue.lease_key: the lock of a lease, which is 44 + lease in one number. Written so that Postgres inlines it.
create or replace function queue.lease_key(p_id bigint, p_lease bigint)
returns bigint
language sql immutable
as $$
    select hashint8extended(p_id, 44) # p_lease
$$;

-- queue.crew_of: a subscriber with its settings.
--   p_topic, p_subscriber  the topic's name and the subscriber's
-- Returns one row, or none. Locks nothing. Written so that Postgres inlines it.
create or replace function queue.crew_of(p_topic text, p_subscriber text)
returns table (id bigint, topic_id integer, max_attempts integer, backoff_seconds double precision,
               backoff_cap_seconds double precision, ordered boolean)
language sql stable
as $$
    select s.subscriber_id, s.topic_id, coalesce(c.max_attempts, 5), coalesce(c.backoff_seconds, 1),
           coalesce(c.backoff_cap_seconds, 3600), coalesce(c.ordered, false)
    from queue.topic t
    join queue.subscriber s using (topic_id)
    left join queue.crew c using (subscriber_id)
    where t.name = p_topic and s.name = p_subscriber
$$;

-- queue.ledger: the state of a subscriber's work: its newest hold, or the beginning of an epoch.
--   p_id, p_epoch, p_position  the subscriber, and where it is
-- Returns one row: the last act, frontier, cursor, and the count of redeliveries. In the beginning the cursor is behind what
-- is due at -infinity, which is only state. Written so that Postgres inlines it.
create or replace function queue.ledger(p_id bigint, p_epoch bigint, p_position bigint)
returns table (act bigint, frontier bigint, redeliveries bigint, cursor_due timestamptz, cursor_act bigint, cursor_offset bigint)
language sql stable
as $$
    select coalesce(h.act, 0), greatest(case when h.epoch = p_epoch then h.frontier end, p_position),
           coalesce(h.redeliveries, 0), coalesce(case when h.epoch = p_epoch then h.cursor_due end, '-infinity'),
           coalesce(case when h.epoch = p_epoch then h.cursor_act end, 9223372036854775807),
           case when h.epoch = p_epoch then h.cursor_offset end
    from (values (p_id)) s(id)
    left join lateral (select l.* from queue.hold l where l.subscriber_id = s.id order by l.act desc limit 1) h on true
$$;

-- queue.rest: what of a hold's messages is not settled.
--   p_id, p_epoch  the subscriber and its epoch
--   p_act          under which act they are settled
--   p_offsets      the messages
-- Returns one row. Locks nothing. Written so that Postgres inlines it. Each range is probed by itself, which "offset 0" sees
-- to, here and elsewhere: as a join it may become one look at all that is settled.
create or replace function queue.rest(p_id bigint, p_epoch bigint, p_act bigint, p_offsets int8multirange)
returns table (rest int8multirange)
language sql stable
as $$
    select p_offsets - coalesce(range_agg(int8range(s.first, s.last, '[]')), '{}')
    from unnest(p_offsets) u
    cross join lateral (select q.first, q.last from queue.settled q
                        where q.subscriber_id = p_id and q.epoch = p_epoch and q.counts in (false, true)
                          and q.first >= lower(u) and q.first < upper(u) and q.act = p_act offset 0) s
$$;

-- queue.size_of: how many offsets a set has. Locks nothing.
create or replace function queue.size_of(p_offsets int8multirange)
returns bigint
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    return (select coalesce(sum(upper(u) - lower(u)), 0) from unnest(p_offsets) u);
end
$$;

-- queue.first_of: the first messages of a set.
--   p_topic_id   the topic's number
--   p_offsets    the set
--   p_limit      how many at the most
--   p_max_bytes  how many bytes of payload, key and headers at the most; null: it does not matter
-- Returns the part that fits, which may be nothing, and its bytes; 0 when they do not matter. Locks nothing.
create or replace function queue.first_of(p_topic_id integer, p_offsets int8multirange, p_limit bigint, p_max_bytes bigint,
                                          out part int8multirange, out bytes bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
declare
    v_last bigint;
begin
    part := p_offsets;
    bytes := 0;
    if upper(p_offsets) - lower(p_offsets) > p_limit then
        select coalesce(range_agg(int8range(f.first, f.after)), '{}') into part
        from (select lower(u) as first,
                     least(upper(u), lower(u) + p_limit - coalesce(sum(upper(u) - lower(u)) over (
                         order by lower(u) rows between unbounded preceding and 1 preceding), 0)::bigint) as after
              from unnest(p_offsets) u) f
        where f.first < f.after;
    end if;
    if p_max_bytes is not null and not isempty(part) then
        select max(s."offset"), max(s.bytes) into v_last, bytes
        from (select m."offset",
                     sum(octet_length(m.payload::text) + coalesce(octet_length(to_json(m.key)::text), 0)
                         + coalesce(octet_length(m.headers::text), 0)) over (order by m."offset") as bytes
              from unnest(part) u
              cross join lateral (select l.* from queue.message l where l.topic_id = p_topic_id
                                     and l."offset" >= lower(u) and l."offset" < upper(u) offset 0) m) s
        where s.bytes <= p_max_bytes;
        part := part * int8multirange(int8range(null, coalesce(v_last, 0), '(]'));
    end if;
end
$$;

-- queue.check_ledger: refuses a transaction that cannot see what was done to holds since its snapshot.
--   p_id, p_epoch  the subscriber and its epoch
--   p_act          the next act as the transaction sees it; null: it makes none
--   p_lease, p_n   the next extension of a lease as it sees it; null: it looked at none
--   p_acts, p_rests  holds, and what it takes for not settled of each
-- Only the primary keys know better: rows are tried, and given back. Raises 40001; nothing in READ COMMITTED. The locks that
-- keep others from what is tried must be held.
create or replace function queue.check_ledger(p_id bigint, p_epoch bigint, p_act bigint, p_lease bigint default null,
                                              p_n integer default null, p_acts bigint[] default '{}',
                                              p_rests int8multirange[] default '{}')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform queue.try_ledger(p_id, p_epoch, p_act, p_lease, p_n, p_acts, p_rests);
    end if;
end
$$;

-- queue.try_ledger: what queue.check_ledger does above READ COMMITTED.
create or replace function queue.try_ledger(p_id bigint, p_epoch bigint, p_act bigint, p_lease bigint, p_n integer,
                                            p_acts bigint[], p_rests int8multirange[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set exit_on_error = off
as $$
begin
    insert into queue.hold (subscriber_id, act, epoch, held_at, due_at, frontier, redeliveries, cursor_due, cursor_act,
                            attempt, part, parts, kind, redriven, offsets)
    select p_id, p_act, p_epoch, now(), '-infinity', 0, 0, now(), 0, 0, 0, 0, 'i', false, '{}' where p_act is not null;
    insert into queue.extension (subscriber_id, lease, n, expires_at)
    select p_id, p_lease, p_n, now() where p_n is not null;
    insert into queue.settled (subscriber_id, epoch, first, last, act, counts, outcome)
    select p_id, p_epoch, o, o, h.act, c, 'b'
    from unnest(p_acts, p_rests) h(act, rest)
    cross join lateral unnest(h.rest) u
    cross join lateral generate_series(lower(u), upper(u) - 1) o
    cross join unnest('{f,t}'::boolean[]) c;
    raise exception using errcode = 'QL000', message = 'the ledger is as it was';
exception
    when sqlstate 'QL000' then
        null;
    when unique_violation then
        raise exception using errcode = '40001',
            message = 'the leases have moved on since this transaction took its snapshot: try again';
end
$$;

-- queue.put: puts messages under a new hold that is no lease.
--   p_id, p_epoch, p_position  the subscriber, and where it is
--   p_kind, p_attempt, p_redriven, p_offsets, p_held_at, p_worker, p_origin, p_part  the hold
--   p_due_at  until when they are out; not before what the cursor has passed
-- Returns its act. Raises 40001 as queue.check_ledger. Lock 43 must be held.
create or replace function queue.put(p_id bigint, p_epoch bigint, p_position bigint, p_kind "char", p_attempt integer,
                                     p_redriven boolean, p_offsets int8multirange, p_held_at timestamptz, p_due_at timestamptz,
                                     p_worker text default null, p_origin bigint default null, p_part smallint default 0)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
as $$
declare
    v_state record;
begin
    select * into v_state from queue.ledger(p_id, p_epoch, p_position);
    perform queue.check_ledger(p_id, p_epoch, v_state.act + 1);
    insert into queue.hold (subscriber_id, act, epoch, origin, held_at, due_at, frontier, redeliveries, cursor_due, cursor_act,
                            cursor_offset, attempt, part, parts, kind, redriven, worker, offsets)
    values (p_id, v_state.act + 1, p_epoch, p_origin, p_held_at, greatest(p_due_at, v_state.cursor_due), v_state.frontier,
            v_state.redeliveries, v_state.cursor_due, v_state.cursor_act, v_state.cursor_offset, p_attempt, p_part, 1, p_kind,
            p_redriven, p_worker, p_offsets);
    return v_state.act + 1;
end
$$;

-- queue.settle: says that messages are over under a hold.
--   p_id, p_epoch, p_act  the subscriber, its epoch, and the hold
--   p_offsets             the messages
--   p_counts, p_outcome, p_error  as queue.settled has them
-- Lock 44 of the lease must be held, or lock 43 when it has expired.
create or replace function queue.settle(p_id bigint, p_epoch bigint, p_act bigint, p_offsets int8multirange, p_counts boolean,
                                        p_outcome "char", p_error text default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    insert into queue.settled (subscriber_id, epoch, first, last, act, counts, outcome, error)
    select p_id, p_epoch, lower(u), upper(u) - 1, p_act, p_counts, p_outcome, p_error from unnest(p_offsets) u;
end
$$;

-- queue.advance: moves a subscriber's position over what is done or dead from it on.
--   p_id     the subscriber
--   p_limit  over how many ranges at the most
-- Returns position and epoch as they are now; null when there is no such subscriber. Tries lock 45: when another has it,
-- nothing moves. A move is an ack like any other: its number is a compare-and-set.
create or replace function queue.advance(p_id bigint, p_limit integer, out "position" bigint, out epoch bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_move  bigint;
    v_from  bigint;
    v_last  bigint; -- of the range that the next message is in
    v_left  integer := p_limit;
    v_mover boolean := pg_try_advisory_xact_lock(45, queue.crew_key(p_id));
begin
    loop
        -- the last range that begins at or before the next message: a plain ack may have ended within it
        select p.move, p."offset", p.epoch, s.last into v_move, v_from, epoch, v_last
        from queue.position p
        left join lateral (select q.last from queue.settled q
                           where q.subscriber_id = p_id and q.epoch = p.epoch and q.counts and q.first <= p."offset" + 1
                           order by q.first desc limit 1) s on true
        where p.subscriber_id = p_id order by p.move desc limit 1;
        "position" := v_from;
        exit when not v_mover or (v_last > v_from) is not true;
        while v_last > "position" and v_left > 0 loop
            "position" := v_last;
            v_left := v_left - 1;
            v_last := (select s.last from queue.settled s
                       where s.subscriber_id = p_id and s.epoch = advance.epoch and s.counts
                         and s.first = advance."position" + 1 limit 1);
        end loop;
        insert into queue.position (subscriber_id, move, "offset", epoch, cause)
        values (p_id, v_move + 1, advance."position", advance.epoch, 'ack')
        on conflict do nothing;
        exit when found;
    end loop;
end
$$;

-- queue.bury: puts messages among the dead letters, each with a copy, and settles them.
--   p_id, p_topic_id, p_epoch  the subscriber, its topic, and its epoch
--   p_act, p_attempt, p_redriven, p_worker  the hold under which they die
--   p_offsets  the messages
--   p_reason   nacked or expired
--   p_error    the worker's words; when they expired, the last ones that were said
-- Locks as queue.settle.
create or replace function queue.bury(p_id bigint, p_topic_id integer, p_epoch bigint, p_act bigint, p_attempt integer,
                                      p_redriven boolean, p_worker text, p_offsets int8multirange, p_reason text,
                                      p_error text default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off
set jit = off
as $$
begin
    perform queue.settle(p_id, p_epoch, p_act, p_offsets, not p_redriven, 'x', p_error);
    insert into queue.dead as d (subscriber_id, "offset", epoch, attempts, reason, error, worker, died_at, published_at, key,
                                 headers, payload)
    select p_id, o, p_epoch, p_attempt, p_reason,
           case when p_reason = 'expired' and p_attempt > 1 then
               (select s.error from queue.settled s
                where s.subscriber_id = p_id and s.epoch = p_epoch and not s.counts and s.first between o - 9999 and o
                  and s.last >= o and s.error is not null
                order by s.act desc limit 1) else p_error end,
           p_worker, clock_timestamp(), m.published_at, m.key, m.headers, m.payload
    from unnest(p_offsets) u
    cross join lateral generate_series(lower(u), upper(u) - 1) o
    left join lateral (select l.* from queue.message l where l.topic_id = p_topic_id and l."offset" = o limit 1) m on true
    on conflict (subscriber_id, "offset") do update
    set epoch = excluded.epoch, attempts = excluded.attempts, reason = excluded.reason, error = excluded.error,
        worker = excluded.worker, died_at = excluded.died_at, redriven_epoch = null;
end
$$;

-- queue.lease_expired: raises that a lease holds nothing any more.
--   p_why  why
-- Raises QL010 lease_expired.
create or replace function queue.lease_expired(p_why text)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    raise exception using errcode = 'QL010', message = format('the lease %s: its messages may be another''s by now', p_why);
end
$$;

-- queue.act_of: the first act of a lease.
--   p_lease  the lease's id
-- Returns null when it is none. Written so that Postgres inlines it.
create or replace function queue.act_of(p_lease text)
returns bigint
language sql immutable
as $$
    select case when p_lease ~ '^[0-9]{1,18}-[0-9]{1,18}$' then split_part(p_lease, '-', 1)::bigint end
$$;

-- queue.held: what a lease holds.
--   p_id       the subscriber
--   p_lease    the lease's id
--   p_asked    the messages that it is asked for; null: all that it holds
-- Returns lease (its first act), epoch, position, the time, when it expires, its worker, the number of extensions; an array
--   each for its parts: act, attempt, whether redriven, what is not settled; and together: rest (what it still holds), part
--   (what of it was asked for), gone (what was asked for and is settled).
-- Raises QL009 invalid_request (it never held these), QL010 lease_expired: it is unknown, of another epoch, or it has expired
--   and not all that was asked for was settled before; 40001 as queue.check_ledger. Lock 44 of the lease must be held.
create or replace function queue.held(
    p_id bigint, p_lease text, p_asked int8multirange, out lease bigint, out epoch bigint, out "position" bigint,
    out "time" timestamptz, out expires_at timestamptz, out worker text, out extensions integer,
    out acts bigint[], out attempts integer[], out redriven boolean[], out rests int8multirange[],
    out rest int8multirange, out part int8multirange, out gone int8multirange)
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_all   int8multirange;
    v_parts smallint;
begin
    lease := queue.act_of(p_lease);
    select p.epoch, p."offset", greatest(clock_timestamp(), case when n.epoch = p.epoch then n.cursor_due end),
           greatest(l.due_at, x.expires_at), l.worker, coalesce(x.n, 0), l.parts, l.offsets,
           array[l.act], array[l.attempt], array[l.redriven], array[r.rest], r.rest
    into epoch, "position", "time", expires_at, worker, extensions, v_parts, v_all, acts, attempts, redriven, rests, rest
    from queue.hold l
    cross join lateral (select q.epoch, q."offset" from queue.position q
                        where q.subscriber_id = p_id order by q.move desc limit 1) p
    cross join lateral (select q.epoch, q.cursor_due from queue.hold q
                        where q.subscriber_id = p_id order by q.act desc limit 1) n
    left join lateral (select e.expires_at, e.n from queue.extension e
                       where e.subscriber_id = p_id and e.lease = l.act order by e.n desc limit 1) x on true
    cross join lateral queue.rest(p_id, l.epoch, l.act, l.offsets) r
    where l.subscriber_id = p_id and l.act = held.lease and l.kind = 'l' and l.epoch = p.epoch
      and l.secret = split_part(p_lease, '-', 2)::bigint;
    if not found then
        perform queue.check_ledger(p_id, 0, lease)
        where not exists (select from queue.hold h where h.subscriber_id = p_id and h.act = held.lease); -- or is it only not seen?
        perform queue.lease_expired('is unknown, or from before a reset or seek');
    end if;
    if v_parts > 1 then -- as it seldom has
        select array_agg(h.act), array_agg(h.attempt), array_agg(h.redriven), array_agg(h.rest), range_agg(h.offsets),
               range_agg(h.rest)
        into acts, attempts, redriven, rests, v_all, rest
        from (select q.act, q.attempt, q.redriven, q.offsets, r.rest
              from queue.hold q cross join lateral queue.rest(p_id, held.epoch, q.act, q.offsets) r
              where q.subscriber_id = p_id and q.act between held.lease and held.lease + v_parts - 1 order by q.act) h;
    end if;
    if not p_asked <@ v_all or isempty(p_asked) then
        raise exception using errcode = 'QL009', message = 'the lease does not hold all of these offsets';
    end if;
    part := coalesce(p_asked * rest, rest);
    gone := coalesce(p_asked, v_all) - rest;
    if expires_at <= "time" and not isempty(part) then
        perform queue.lease_expired('has expired');
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform queue.try_ledger(p_id, epoch, null, lease, extensions + 1, acts, rests);
    end if;
end
$$;

-- queue.set_of: offsets as a set. Locks nothing.
--   p_offsets  the offsets
-- Returns null for null, and an empty set for none. Raises QL009 invalid_request when one of them is null or out of range.
create or replace function queue.set_of(p_offsets bigint[])
returns int8multirange
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    if p_offsets is not null and (p_offsets is distinct from array_remove(p_offsets, null)
                                  or exists (select from unnest(p_offsets) o where o not between 1 and 9223372036854775806)) then
        raise exception using errcode = 'QL009', message = 'these are no offsets';
    end if;
    return case when p_offsets is not null then
        coalesce((select range_agg(int8range(o, o, '[]')) from unnest(p_offsets) o), '{}') end;
end
$$;

-- queue.check_worker: refuses what no lease can have.
--   p_worker, p_lease_seconds  who wants it, and for how long
-- Raises QL009 invalid_request. Locks nothing.
create or replace function queue.check_worker(p_worker text, p_lease_seconds double precision)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    if (p_lease_seconds between 0.001 and 43200) is not true then
        raise exception using errcode = 'QL009', message = 'a lease is for 0.001 to 43200 seconds';
    end if;
    if length(p_worker) > 200 then
        raise exception using errcode = 'QL009', message = 'a worker''s name has at most 200 characters';
    end if;
end
$$;

comment on function queue.crew_key is 'The lock of a subscriber''s work.';
comment on function queue.lease_key is 'The lock of a lease.';
comment on function queue.crew_of is 'A subscriber with its settings.';
comment on function queue.ledger is 'The state of a subscriber''s work.';
comment on function queue.rest is 'What of a hold''s messages is not settled.';
comment on function queue.size_of is 'How many offsets a set has.';
comment on function queue.first_of is 'The first messages of a set.';
comment on function queue.check_ledger is 'Refuses a transaction that cannot see what was done to holds since its snapshot.';
comment on function queue.try_ledger is 'What queue.check_ledger does above READ COMMITTED.';
comment on function queue.put is 'Puts messages under a new hold that is no lease.';
comment on function queue.settle is 'Says that messages are over under a hold.';
comment on function queue.advance is 'Moves a subscriber''s position over what is done or dead from it on.';
comment on function queue.bury is 'Puts messages among the dead letters.';
comment on function queue.lease_expired is 'Raises that a lease holds nothing any more.';
comment on function queue.act_of is 'The first act of a lease.';
comment on function queue.held is 'What a lease holds.';
comment on function queue.set_of is 'Offsets as a set.';
comment on function queue.check_worker is 'Refuses what no lease can have.';
