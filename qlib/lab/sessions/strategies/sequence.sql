-- Strategy: offsets from a sequence, and nobody waits.
--
-- The idea: a sequence never gives out the same number twice, and gives it out at once. So two transactions
-- can publish to one topic at the same moment: no lock, no waiting.
--
-- What goes wrong: the number is given out now, the message is seen only after the commit. Offset 1 may commit
-- after offset 2. A subscriber that came by in between has read 2 and acknowledged it; it starts at 3 from now on
-- and never sees 1. Nothing failed, and a message is lost.
-- A rollback does not give its number back either, so an offset may stay empty for ever.
--
-- Left out, to keep the page short: the checks of the arguments, and numbered publishes.

create sequence if not exists queue.next_offset;

create or replace function queue.publish_batch(
    p_topic text, p_payloads json, p_keys text[] default null, p_headers json default null,
    p_producer text default null, p_sequence bigint default null,
    out first_offset bigint, out last_offset bigint, out duplicate boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_topic_id integer := (queue.get_topic(p_topic)).topic_id;
begin
    with published as (
        insert into queue.message (topic_id, "offset", published_at, key, headers, payload)
        select v_topic_id, nextval('queue.next_offset'), clock_timestamp(), b.key,
               case when json_typeof(b.headers) = 'object' then b.headers end, b.payload
        from rows from (json_array_elements(p_payloads), unnest(p_keys), json_array_elements(p_headers))
             as b(payload, key, headers)
        returning "offset"
    )
    select min(p."offset"), max(p."offset"), false into first_offset, last_offset, duplicate from published p;
end
$$;
