-- Strategy: a row that counts, and everybody waits for it.
--
-- The idea: each topic has a row with its head. A publish adds to it, and the row stays locked until the publish
-- commits. So the next one waits: offsets are given out in the order of the commits, and a rollback takes the count
-- back with it. It keeps every promise.
--
-- What it costs: an update does not change a row, it writes a new version of it and leaves the old one behind. Postgres
-- clears those away as it comes by, but not while some transaction may still want to see them. One session with an old
-- snapshot, a forgotten report, and each publish has to step over all versions since: the more there are, the slower.
--
-- Left out, to keep the page short: the checks of the arguments, and numbered publishes.

create table if not exists queue.counter (
    topic_id integer primary key,
    head     bigint not null
);

create or replace function queue.publish_batch(
    p_topic text, p_payloads json, p_keys text[] default null, p_headers json default null,
    p_producer text default null, p_sequence bigint default null,
    out first_offset bigint, out last_offset bigint, out duplicate boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_topic_id integer := (queue.get_topic(p_topic)).topic_id;
    v_count    integer := json_array_length(p_payloads);
begin
    insert into queue.counter as c (topic_id, head) values (v_topic_id, v_count)
    on conflict (topic_id) do update set head = c.head + excluded.head
    returning c.head into last_offset;
    first_offset := last_offset - v_count + 1;
    duplicate := false;

    insert into queue.message (topic_id, "offset", published_at, key, headers, payload)
    select v_topic_id, first_offset - 1 + b.n, clock_timestamp(), b.key,
           case when json_typeof(b.headers) = 'object' then b.headers end, b.payload
    from rows from (json_array_elements(p_payloads), unnest(p_keys), json_array_elements(p_headers))
         with ordinality as b(payload, key, headers, n);
end
$$;
