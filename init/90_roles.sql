-- Roles: queue_owner owns everything and cannot log in; queue_app may call the functions and nothing else; queue_ro
-- may read tables and views and nothing else. Grant queue_app or queue_ro to the users who need them.
-- The functions run as their owner (security definer), with a fixed search_path that ends in pg_temp.
--
-- All that is ours is named here, one by one: what somebody else keeps in the schema stays his, with all rights to it.

do $$
declare
    v_role text;
    v_kind text;
    v_name text;
    v_relations constant regclass[] := array[
        'queue.topic', 'queue.message', 'queue.subscriber', 'queue.position', 'queue.publication', 'queue.round',
        'queue.installation',
        'queue.crew', 'queue.hold', 'queue.settled', 'queue.extension', 'queue.turn', 'queue.dead',
        'queue.holds', 'queue.leases', 'queue.dead_letters',
        'queue.topics', 'queue.messages', 'queue.subscribers'];
    v_public constant regprocedure[] := array[
        'queue.create_topic(text, text)',
        'queue.get_topic(text)',
        'queue.list_topics(text, integer)',
        'queue.delete_topic(text)',
        'queue.publish(text, json, text, json, text, bigint)',
        'queue.publish_batch(text, json, text[], json, text, bigint)',
        'queue.subscribe(text, text, text, bigint, timestamptz, integer, double precision, double precision, boolean)',
        'queue.get_subscriber(text, text)',
        'queue.list_subscribers(text, text, integer)',
        'queue.unsubscribe(text, text)',
        'queue.fetch(text, text, integer, bigint, bigint, bigint)',
        'queue.fetch_json(text, text, integer, bigint, bigint, bigint)',
        'queue.ack(text, text, bigint, bigint)',
        'queue.browse(text, bigint, integer, bigint)',
        'queue.browse_json(text, bigint, integer, bigint)',
        'queue.heads(text[])',
        'queue.lags(integer)',
        'queue.count_subscribers()',
        'queue.reset(text, bigint, timestamptz, boolean)',
        'queue.seek(text, text, bigint, timestamptz, boolean)',
        'queue.lease(text, text, text, integer, double precision, boolean, bigint)',
        'queue.lease_many(text, text, text[], integer[], double precision[], boolean, bigint)',
        'queue.lease_json(text, text, text[], integer[], double precision[], boolean, bigint)',
        'queue.next_due(text, text)',
        'queue.ack_lease(text, text, text, bigint[])',
        'queue.ack_leases(text, text, text[], json)',
        'queue.nack(text, text, text, bigint[], double precision, text, boolean, boolean)',
        'queue.extend(text, text, text, double precision, boolean)',
        'queue.list_dead(text, text, bigint, integer, bigint)',
        'queue.dead_json(text, text, bigint, integer, bigint)',
        'queue.redrive(text, text, bigint[], integer)',
        'queue.remove_dead(text, text, bigint[], integer)',
        'queue.settings(text, text)',
        'queue.configure(text, text, integer, double precision, double precision, boolean)',
        'queue.list_leases(text, text, bigint, integer)',
        'queue.leases_json(text, text, bigint, integer)',
        'queue.workloads(integer)',
        'queue.acts(text[], text[])',
        'queue.tidy(integer)',
        'queue.number()',
        'queue.applied()',
        'queue.installed()'];
    v_inner constant regprocedure[] := array[
        'queue.missing(text, text)',
        'queue.check_name(text, text)',
        'queue.lock_topic(text)',
        'queue.clear(integer[], integer)',
        'queue.clear_work(bigint[], integer)',
        'queue.crew_key(bigint)',
        'queue.lease_key(bigint, bigint)',
        'queue.crew_of(text, text)',
        'queue.ledger(bigint, bigint, bigint)',
        'queue.rest(bigint, bigint, bigint, int8multirange)',
        'queue.size_of(int8multirange)',
        'queue.first_of(integer, int8multirange, bigint, bigint)',
        'queue.check_ledger(bigint, bigint, bigint, bigint, integer, bigint[], int8multirange[])',
        'queue.try_ledger(bigint, bigint, bigint, bigint, integer, bigint[], int8multirange[])',
        'queue.put(bigint, bigint, bigint, "char", integer, boolean, int8multirange, timestamptz, timestamptz, text, bigint,
                   smallint)',
        'queue.settle(bigint, bigint, bigint, int8multirange, boolean, "char", text)',
        'queue.advance(bigint, integer)',
        'queue.bury(bigint, integer, bigint, bigint, integer, boolean, text, int8multirange, text, text)',
        'queue.lease_expired(text)',
        'queue.act_of(text)',
        'queue.held(bigint, text, int8multirange)',
        'queue.set_of(bigint[])',
        'queue.check_worker(text, double precision)',
        'queue.is_over(bigint, bigint, bigint, bigint)',
        'queue.keyed(integer, int8multirange)',
        'queue.followers(integer, int8multirange, int8multirange)',
        'queue.check_front(integer, int8multirange, int8multirange)',
        'queue.pass_over(bigint, integer, bigint, bigint, bigint, bigint, bigint, int8multirange)',
        'queue.take_turns(bigint, integer, bigint, bigint, int8multirange, integer, bigint, bigint, int8multirange)',
        'queue.pass_on(bigint, integer, bigint, bigint, int8multirange)',
        'queue.take_up(integer, bigint, bigint, boolean, integer, queue.hold, bigint, timestamptz)',
        'queue.take_first(integer, bigint, int8multirange, integer, bigint, bigint, int8multirange)',
        'queue.secret()',
        'queue.make_leases(bigint, integer, bigint, bigint, bigint, timestamptz, bigint, bigint, timestamptz, bigint, bigint, text[], double precision[], integer[], integer[], boolean[], int8multirange[])',
        'queue.leased_json(bigint, timestamptz, text, json, integer, json)',
        'queue.offsets_of(json)',
        'queue.check_done(bigint, bigint, bigint[], int8multirange, boolean)',
        'queue.bring_back(bigint, bigint[], boolean[], int8multirange[], int8multirange)',
        'queue.backoff(integer, double precision, double precision)',
        'queue.check_limit(integer)',
        'queue.check_settings(integer, double precision, double precision)',
        'queue.sweep(text, text, bigint)',
        'queue.trim_work(bigint[], integer)',
        'queue.tidy_work(integer)',
        'queue.went_on(text, bigint, bigint)',
        'queue.tidy_moves(integer)',
        'queue.tidy_topics(integer)',
        'queue.next_topic_id()',
        'queue.check_escapes(json)',
        'queue.open_brackets(text)',
        'queue.is_nested_too_deep(json)',
        'queue.is_too_large_a_number(text)',
        'queue.check_message(bigint, json, text, json)',
        'queue.may_hold_a_large_number(text)',
        'queue.is_small(json)',
        'queue.is_same_batch(integer, bigint, bigint, json, text[], json)',
        'queue.check_parts(json, text[], json)',
        'queue.check_snapshot(text, integer, bigint)',
        'queue.offset_at(integer, timestamptz)',
        'queue.out_of_range(text, bigint, bigint, bigint)',
        'queue.new_epoch()',
        'queue.place(text, bigint, timestamptz)',
        'queue.next_subscriber_id()',
        'queue.add_subscriber(text, text, text, bigint, timestamptz)',
        'queue.last_within(integer, bigint, integer, bigint)',
        'queue.slice(integer, bigint, integer, bigint)',
        'queue.rfc3339(timestamptz)',
        'queue.as_json(queue.message, text)',
        'queue.stale_epoch(text, bigint, bigint)',
        'queue.read_on(text, text, bigint, bigint)'];
begin
    -- roles belong to the whole cluster: another database may be making them at this moment
    foreach v_role in array array['queue_owner', 'queue_app', 'queue_ro'] loop
        if not exists (select from pg_catalog.pg_roles r where r.rolname = v_role) then
            begin
                execute format('create role %I nologin', v_role);
            exception when duplicate_object or unique_violation then
                null;
            end;
        end if;
    end loop;
    if not pg_catalog.pg_has_role(current_user, 'queue_owner', 'usage') then
        execute format('grant queue_owner to %I', current_user);
    end if;

    execute format('grant create on database %I to queue_owner', pg_catalog.current_database());
    for v_kind, v_name in
        select 'schema', n.nspname::text from pg_catalog.pg_namespace n
        where n.nspname = 'queue' and n.nspowner <> 'queue_owner'::regrole
        union all
        select case c.relkind when 'v' then 'view' else 'table' end, c.oid::regclass::text
        from pg_catalog.pg_class c
        where c.oid = any (v_relations) and c.relowner <> 'queue_owner'::regrole
        union all
        select 'function', p.oid::regprocedure::text
        from pg_catalog.pg_proc p
        where p.oid = any (v_public || v_inner) and p.proowner <> 'queue_owner'::regrole
    loop
        execute format('alter %s %s owner to queue_owner', v_kind, v_name);
    end loop;

    foreach v_name in array (v_public || v_inner)::text[] loop
        execute format('revoke all on function %s from public', v_name);
    end loop;
    foreach v_name in array v_public::text[] loop
        execute format('grant execute on function %s to queue_app', v_name);
    end loop;
    foreach v_name in array v_relations::text[] loop
        execute format('grant select on %s to queue_ro', v_name);
    end loop;
end
$$;

revoke all on schema queue from public;
grant usage on schema queue to queue_app, queue_ro;
-- for all schemas: what everybody may do by default cannot be revoked for one schema alone
alter default privileges for role queue_owner revoke execute on functions from public;
