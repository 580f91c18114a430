-- Strategy: the highest offset plus one, and nobody locks.
--
-- The idea: the log itself knows the next offset. Look it up, add one, insert.
--
-- What goes wrong: nobody sees what is not committed. Two transactions look at the same moment, find the same
-- highest offset and want to insert the same next one. The primary key lets only one in: the other one waits until
-- the first has committed, and then fails with 23505, a duplicate key. Nothing is lost, but a publish that was right
-- is refused, and the busier a topic is the more of them are. (Without the primary key it would be worse: two
-- messages at one offset.)
--
-- Left out, to keep the page short: the checks of the arguments, and numbered publishes.

create or replace function queue.publish_batch(
    p_topic text, p_payloads json, p_keys text[] default null, p_headers json default null,
    p_producer text default null, p_sequence bigint default null,
    out first_offset bigint, out last_offset bigint, out duplicate boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_topic queue.topics := queue.get_topic(p_topic);
begin
    insert into queue.message (topic_id, "offset", published_at, key, headers, payload)
    select v_topic.topic_id, v_topic.head + b.n, clock_timestamp(), b.key,
           case when json_typeof(b.headers) = 'object' then b.headers end, b.payload
    from rows from (json_array_elements(p_payloads), unnest(p_keys), json_array_elements(p_headers))
         with ordinality as b(payload, key, headers, n);
    first_offset := v_topic.head + 1;
    last_offset := v_topic.head + json_array_length(p_payloads);
    duplicate := false;
end
$$;
