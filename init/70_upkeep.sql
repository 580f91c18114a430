-- Housekeeping, off the hot path and in bounded chunks. The server calls it now and then; so may anyone.

-- queue.tidy: removes a chunk of what nobody needs any more.
--   p_limit  how many rows at the most, of each kind
-- What goes: moves older than a subscriber's newest 1,000; publications older than a day; and the rows of topics and
-- subscribers that were deleted.
-- Returns how many rows were removed: call it again until that is 0. Two calls at once: the second returns 0.
create or replace function queue.tidy(p_limit integer default 10000)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_removed bigint := 0;
    v_rows    bigint;
begin
    if not pg_try_advisory_xact_lock(42, 0) then
        return 0;
    end if;
    -- a transaction with an old snapshot can still subscribe to a topic that was deleted since
    delete from queue.subscriber s
    where s.subscriber_id = any (array(select q.subscriber_id from queue.subscriber q
                                       where not exists (select from queue.topic t where t.topic_id = q.topic_id)
                                       limit p_limit));
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    -- half as many again may pile up before they go, so that we do not come for every single one
    with recursive mover as (
        (select p.subscriber_id from queue.position p order by p.subscriber_id limit 1)
        union all
        select (select p.subscriber_id from queue.position p
                where p.subscriber_id > mover.subscriber_id order by p.subscriber_id limit 1)
        from mover where mover.subscriber_id is not null
    ), surplus as (
        select mover.subscriber_id, newest.move - 1000 as last_move
        from mover
        cross join lateral (select max(p.move) as move from queue.position p
                            where p.subscriber_id = mover.subscriber_id) newest
        cross join lateral (select min(p.move) as move from queue.position p
                            where p.subscriber_id = mover.subscriber_id) oldest
        where newest.move - oldest.move >= 1500
        union all
        select mover.subscriber_id, 9223372036854775807
        from mover
        where mover.subscriber_id is not null
          and not exists (select from queue.subscriber s where s.subscriber_id = mover.subscriber_id)
    )
    delete from queue.position p
    using (select q.subscriber_id, q.move
           from surplus
           join queue.position q on q.subscriber_id = surplus.subscriber_id and q.move <= surplus.last_move
           limit p_limit) gone
    where p.subscriber_id = gone.subscriber_id and p.move = gone.move;
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    delete from queue.publication p
    where p.ctid = any (array(select old.ctid from queue.publication old
                              where old.published_at < statement_timestamp() - interval '1 day' limit p_limit));
    get diagnostics v_rows = row_count;
    v_removed := v_removed + v_rows;

    with recursive log as (
        (select m.topic_id from queue.message m order by m.topic_id limit 1)
        union all
        select (select m.topic_id from queue.message m where m.topic_id > log.topic_id order by m.topic_id limit 1)
        from log where log.topic_id is not null
    )
    delete from queue.message m
    using (select q.topic_id, q."offset"
           from log
           join queue.message q using (topic_id)
           where not exists (select from queue.topic t where t.topic_id = log.topic_id)
           limit p_limit) gone
    where m.topic_id = gone.topic_id and m."offset" = gone."offset";
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
comment on function queue.tidy is 'Removes a chunk of what nobody needs any more; call it until it returns 0.';
