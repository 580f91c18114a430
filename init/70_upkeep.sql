-- Housekeeping, off the hot path and in bounded chunks. The server calls it now and then; so may anyone.

-- queue.went_on: keeps in mind up to where a round has come.
--   p_what     what it looks through
--   p_removed  how many rows were removed
--   p_last     the last number that it is done with; null: the round is over, and the next begins anew
-- Returns how many rows were removed; or 1 when none was, but some were in this round or the last one, so that there may be
-- more elsewhere. Writes queue.round.
create or replace function queue.went_on(p_what text, p_removed bigint, p_last bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_busy integer := case when p_removed > 0 then 2 else coalesce((select r.busy from queue.round r where r.what = p_what), 0) end
                      - case when p_last is null then 1 else 0 end;
begin
    insert into queue.round (what, last, busy) values (p_what, coalesce(p_last, 0), greatest(v_busy, 0))
    on conflict (what) do update set last = excluded.last, busy = excluded.busy
    where (round.last, round.busy) <> (excluded.last, excluded.busy);
    return case when p_removed = 0 and v_busy > 0 then 1 else p_removed end;
end
$$;

-- queue.tidy_moves: removes a chunk of the moves that nobody needs: older than a subscriber's newest 1,000, and those of
-- subscribers that were deleted.
--   p_limit  how many rows at the most; it looks at five times as many subscribers, from where the last call ended
-- Returns what queue.went_on does.
create or replace function queue.tidy_moves(p_limit integer)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_custom_plan -- as queue.clear
as $$
declare
    v_last bigint := coalesce((select r.last from queue.round r where r.what = 'moves'), 0);
    v_ids  bigint[];
    v_rows bigint;
begin
    with recursive mover as (
        (select p.subscriber_id from queue.position p where p.subscriber_id > v_last order by p.subscriber_id limit 1)
        union all
        select (select p.subscriber_id from queue.position p
                where p.subscriber_id > mover.subscriber_id order by p.subscriber_id limit 1)
        from mover where mover.subscriber_id is not null
    )
    select array(select m.subscriber_id from mover m where m.subscriber_id is not null limit 5 * p_limit) into v_ids;
    -- half as many again may pile up before they go, so that we do not come for every single one
    with surplus as (
        select looked.id as subscriber_id, case when s.subscriber_id is null then newest.move else newest.move - 1000 end
               as last_move
        from unnest(v_ids) looked(id)
        left join queue.subscriber s on s.subscriber_id = looked.id
        cross join lateral (select max(p.move) as move from queue.position p where p.subscriber_id = looked.id) newest
        cross join lateral (select min(p.move) as move from queue.position p where p.subscriber_id = looked.id) oldest
        where s.subscriber_id is null or newest.move - oldest.move >= 1500
    )
    delete from queue.position p
    where p.ctid = any (array(select q.ctid
                              from surplus
                              cross join lateral (select l.ctid from queue.position l
                                                  where l.subscriber_id = surplus.subscriber_id
                                                    and l.move <= surplus.last_move
                                                  order by l.move limit p_limit) q
                              limit p_limit));
    get diagnostics v_rows = row_count;
    return queue.went_on('moves', v_rows, case when v_rows >= p_limit then v_last -- there may be more here
                                               when cardinality(v_ids) = 5 * p_limit then v_ids[cardinality(v_ids)] end);
end
$$;

-- queue.tidy_topics: removes a chunk of what is left of topics that were deleted.
--   p_limit  how many rows at the most, of each kind; it looks at as many topics, from where the last call ended
-- Returns what queue.went_on does.
create or replace function queue.tidy_topics(p_limit integer)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_last integer := coalesce((select r.last from queue.round r where r.what = 'topics'), 0);
    v_ids  integer[];
    v_rows bigint;
begin
    with recursive found as (
        select v_last as id
        union all
        select least(
            (select m.topic_id from queue.message m where m.topic_id > found.id order by m.topic_id limit 1),
            (select s.topic_id from queue.subscriber s where s.topic_id > found.id order by s.topic_id limit 1),
            (select p.topic_id from queue.publication p where p.topic_id > found.id order by p.topic_id limit 1))
        from found where found.id is not null
    )
    select array(select f.id from found f where f.id > v_last limit p_limit) into v_ids;
    v_rows := queue.clear(array(select id from unnest(v_ids) id
                                where not exists (select from queue.topic t where t.topic_id = id)), p_limit);
    return queue.went_on('topics', v_rows, case when v_rows >= p_limit then v_last -- there may be more here
                                                when cardinality(v_ids) = p_limit then v_ids[p_limit] end);
end
$$;

-- queue.sweep: moves on what the workers of a subscriber have left and no worker is needed for: the position over all that
-- is done, the cursor over all that is settled; and buries what has expired after its last attempt.
--   p_topic, p_subscriber, p_id  the subscriber
-- Returns 1 when anything moved, else 0. Tries lock 43, and leaves those alone who are at work.
create or replace function queue.sweep(p_topic text, p_subscriber text, p_id bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set exit_on_error = off
set jit = off
as $$
declare
    v_before record;
    v_after  record;
begin
    if not pg_try_advisory_xact_lock(43, queue.crew_key(p_id)) then
        return 0;
    end if;
    select s.move, (select max(h.act) from queue.hold h where h.subscriber_id = p_id) as act into v_before
    from queue.subscribers s where s.subscriber_id = p_id;
    perform queue.lease_many(p_topic, p_subscriber, '{}', '{}', '{}');
    perform queue.advance(p_id, 100000);
    select s.move, (select max(h.act) from queue.hold h where h.subscriber_id = p_id) as act into v_after
    from queue.subscribers s where s.subscriber_id = p_id;
    return (v_after is distinct from v_before)::integer;
exception
    when sqlstate 'QL001' or sqlstate 'QL002' then
        return 0; -- it was deleted meanwhile
end
$$;

-- queue.trim_work: removes a chunk of what the workers of some subscribers need no more: holds that the cursor has passed, ten
-- minutes after they were due, so that the same ack may come again; what is settled far below the position; what is of
-- earlier epochs.
--   p_ids    the subscribers
--   p_limit  how many rows at the most, of each kind
-- Returns how many rows were removed. Reads and is planned as queue.clear.
create or replace function queue.trim_work(p_ids bigint[], p_limit integer)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_custom_plan
as $$
declare
    v_removed bigint;
    v_rows    bigint;
    -- who looks back from the position must not come upon what is gone, row after row
    v_margin  constant integer := 20000;
begin
    delete from queue.hold h
    where h.ctid = any (array(
        select q.ctid
        from unnest(p_ids) s(id)
        cross join lateral (select p.epoch from queue.position p where p.subscriber_id = s.id order by p.move desc limit 1) p
        cross join lateral (select l.act, l.epoch, l.cursor_due, l.cursor_act from queue.hold l
                            where l.subscriber_id = s.id order by l.act desc limit 1) n
        cross join lateral (
            select l.ctid from queue.hold l
            where l.subscriber_id = s.id and l.act < n.act
              and (l.epoch < p.epoch
                   or l.epoch = n.epoch and (l.due_at, l.act) < (n.cursor_due, n.cursor_act)
                      and l.due_at < clock_timestamp() - interval '10 minutes'
                      and not exists (select from queue.extension e
                                      where e.subscriber_id = s.id and e.lease = coalesce(l.origin, l.act) - l.part
                                        and e.expires_at > clock_timestamp() - interval '10 minutes'))
            order by l.epoch, l.due_at, l.act limit p_limit) q
        limit p_limit));
    get diagnostics v_removed = row_count;

    delete from queue.settled d
    where d.ctid = any (array(
        select q.ctid
        from unnest(p_ids) s(id)
        cross join lateral (select p.epoch, p."offset" from queue.position p
                            where p.subscriber_id = s.id order by p.move desc limit 1) p
        cross join lateral (select min(l.act) as act from queue.hold l where l.subscriber_id = s.id) h
        cross join lateral (
            select l.ctid from queue.settled l
            where l.subscriber_id = s.id
              and (l.epoch < p.epoch or l.act < h.act and (not l.counts or l.last < p."offset" - v_margin))
            order by l.epoch, l.counts, l.first, l.act limit p_limit) q
        limit p_limit));
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    delete from queue.extension d
    where d.ctid = any (array(
        select q.ctid
        from unnest(p_ids) s(id)
        cross join lateral (select min(l.act) as act from queue.hold l where l.subscriber_id = s.id) h
        cross join lateral (select l.ctid from queue.extension l
                            where l.subscriber_id = s.id and l.lease < h.act order by l.lease, l.n limit p_limit) q
        limit p_limit));
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    delete from queue.turn d
    where d.ctid = any (array(
        select q.ctid
        from unnest(p_ids) s(id)
        cross join lateral (select p.epoch, p."offset" from queue.position p
                            where p.subscriber_id = s.id order by p.move desc limit 1) p
        cross join lateral (select l.ctid from queue.turn l
                            where l.subscriber_id = s.id and (l.epoch < p.epoch or l."offset" < p."offset" - v_margin)
                            order by l.epoch, l.key_hash, l."offset", l.n limit p_limit) q
        limit p_limit));
    get diagnostics v_rows = row_count;
    return v_removed + v_rows;
end
$$;

-- queue.tidy_work: removes a chunk of what workers have left, and moves on what waits for no worker.
--   p_limit  how many rows at the most, of each kind; it looks at as many subscribers, from where the last call ended, and
--            moves on a hundred of them
-- Returns what queue.went_on does.
create or replace function queue.tidy_work(p_limit integer)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_last  bigint := coalesce((select r.last from queue.round r where r.what = 'work'), 0);
    v_ids   bigint[];
    v_waits bigint[];
    v_more  boolean;
    v_rows  bigint;
begin
    with recursive found as (
        select v_last as id
        union all
        select least(
            (select c.subscriber_id from queue.crew c where c.subscriber_id > found.id order by c.subscriber_id limit 1),
            (select h.subscriber_id from queue.hold h where h.subscriber_id > found.id order by h.subscriber_id limit 1),
            (select s.subscriber_id from queue.settled s where s.subscriber_id > found.id order by s.subscriber_id limit 1),
            (select e.subscriber_id from queue.extension e where e.subscriber_id > found.id order by e.subscriber_id limit 1),
            (select t.subscriber_id from queue.turn t where t.subscriber_id > found.id order by t.subscriber_id limit 1),
            (select d.subscriber_id from queue.dead d where d.subscriber_id > found.id order by d.subscriber_id limit 1))
        from found where found.id is not null
    )
    select array(select f.id from found f where f.id > v_last limit p_limit) into v_ids;
    v_more := cardinality(v_ids) = p_limit;
    -- of those who are there, who has a hold that is due, or may move
    v_waits := array(
        select s.subscriber_id
        from unnest(v_ids) v(id)
        join queue.subscribers s on s.subscriber_id = v.id
        cross join lateral queue.ledger(s.subscriber_id, s.epoch, s."position") l
        where s."position" < l.frontier
           or exists (select from queue.hold h where h.subscriber_id = s.subscriber_id and h.epoch = s.epoch
                         and (h.due_at, h.act) > (l.cursor_due, l.cursor_act) and h.due_at < clock_timestamp())
        order by s.subscriber_id limit 101);
    if cardinality(v_waits) > 100 then
        v_ids := array(select id from unnest(v_ids) id where id <= v_waits[100]);
        v_more := true;
    end if;
    v_rows := queue.clear_work(array(select id from unnest(v_ids) id
                                     where not exists (select from queue.subscriber s where s.subscriber_id = id)), p_limit)
              + queue.trim_work(array(select id from unnest(v_ids) id
                                      where exists (select from queue.subscriber s where s.subscriber_id = id)), p_limit);
    if v_rows < p_limit then
        v_rows := v_rows + coalesce((select sum(queue.sweep(s.topic, s.subscriber, s.subscriber_id))
                                     from unnest(v_waits[:100]) w(id)
                                     join queue.subscribers s on s.subscriber_id = w.id), 0);
    end if;
    return queue.went_on('work', v_rows, case when v_rows >= p_limit then v_last -- there may be more here
                                              when v_more then v_ids[cardinality(v_ids)] end);
end
$$;

-- queue.tidy: removes a chunk of what nobody needs any more.
--   p_limit  how many rows at the most, of each kind
-- What goes: moves older than a subscriber's newest 1,000; publications older than a day; what workers have left; and the
-- rows of topics and subscribers that were deleted. Where no worker comes any more, it moves on what waits for none, and
-- buries what has expired after its last attempt. It looks at a part of the subscribers and topics, and the next call at the next one: so
-- a call takes no longer however many there are.
-- Returns how many rows were removed, or a little more when there may be more in another part: call it again until that is
-- 0. Then all that a call has found is gone; with more than 5 * p_limit subscribers or p_limit topics, later calls may find
-- more. Two calls at once: the second returns 0.
create or replace function queue.tidy(p_limit integer default 10000)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set plan_cache_mode = force_custom_plan -- as queue.clear
as $$
declare
    v_removed bigint;
    v_rows    bigint;
begin
    if not pg_try_advisory_xact_lock(42, 0) then
        return 0;
    end if;
    v_removed := queue.tidy_topics(p_limit) + queue.tidy_moves(p_limit) + queue.tidy_work(p_limit);
    delete from queue.publication p
    where p.ctid = any (array(select old.ctid from queue.publication old
                              where old.published_at < statement_timestamp() - interval '1 day' limit p_limit));
    get diagnostics v_rows = row_count;
    return v_removed + v_rows;
end
$$;

-- queue.applied: which files of init/ are in force here.
-- Returns their number, and the digest of the files of that number that a server applied last; null when none did.
-- Locks nothing.
create or replace function queue.applied(out number integer, out digest text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
    select queue.number(), (select i.digest from queue.installation i where i.number = queue.number()
                            order by i.installed_at desc limit 1)
$$;

-- queue.installed: keeps a server from before these files had a number from replacing them by its own.
-- Such a server calls it when it starts, and expects a text. Returns null to one that could not replace them: it goes on
-- with what is here. Raises QL091 to others. Its own function of this name cannot replace one that returns no text,
-- which makes its files fail as a whole. Locks nothing.
do $$
begin
    if exists (select from pg_catalog.pg_proc p
               where p.oid = to_regprocedure('queue.installed()') and p.prorettype = 'text'::regtype) then
        drop function queue.installed();
    end if;
end
$$;

create or replace function queue.installed()
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    if pg_has_role(current_user, 'queue_owner', 'member') then
        raise exception using errcode = 'QL091', message = format(
            'database %I has number %s of init/, which is newer than this server: start a newer one',
            current_database(), queue.number());
    end if;
    return null;
end
$$;

comment on function queue.applied is 'Which files of init/ are in force here.';
comment on function queue.installed is 'Keeps a server from before init/ had a number from replacing it.';
comment on function queue.went_on is 'Keeps in mind up to where a round has come.';
comment on function queue.tidy_moves is 'Removes a chunk of the moves that nobody needs.';
comment on function queue.tidy_topics is 'Removes a chunk of what is left of topics that were deleted.';
comment on function queue.sweep is 'Moves on what the workers of a subscriber have left and no worker is needed for.';
comment on function queue.trim_work is 'Removes a chunk of what the workers of some subscribers need no more.';
comment on function queue.tidy_work is 'Removes a chunk of what workers have left, and moves on what waits for no worker.';
comment on function queue.tidy is 'Removes a chunk of what nobody needs any more.';
