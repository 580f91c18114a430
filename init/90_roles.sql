-- Roles: queue_owner owns everything and cannot log in; queue_app may call the functions and nothing else; queue_ro
-- may read tables and views and nothing else. Grant queue_app or queue_ro to the users who need them.
-- The functions run as their owner (security definer), with a fixed search_path that ends in pg_temp.

do $$
declare
    v_role text;
    v_kind text;
    v_name text;
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
        where c.relnamespace = 'queue'::regnamespace and c.relkind in ('r', 'v')
          and c.relowner <> 'queue_owner'::regrole
        union all
        select 'function', p.oid::regprocedure::text
        from pg_catalog.pg_proc p
        where p.pronamespace = 'queue'::regnamespace and p.proowner <> 'queue_owner'::regrole
    loop
        execute format('alter %s %s owner to queue_owner', v_kind, v_name);
    end loop;
end
$$;

revoke all on schema queue from public;
revoke all on all functions in schema queue from public;
-- for all schemas: what everybody may do by default cannot be revoked for one schema alone
alter default privileges for role queue_owner revoke execute on functions from public;

grant usage on schema queue to queue_app, queue_ro;
grant select on all tables in schema queue to queue_ro;
grant execute on function
    queue.create_topic, queue.get_topic, queue.list_topics, queue.delete_topic,
    queue.publish, queue.publish_batch, queue.subscribe, queue.get_subscriber, queue.list_subscribers,
    queue.unsubscribe, queue.fetch, queue.fetch_json, queue.ack, queue.browse, queue.browse_json, queue.heads, queue.lags,
    queue.reset, queue.seek, queue.tidy, queue.installed
    to queue_app;
