-- Strategy: a row for each page of messages, not for each message.
--
-- The idea, which is Kafka's: to the log, what is published together is one thing. A row of Postgres has a header of
-- some 24 bytes and an entry in the index, and is a piece of work for the insert, however short the message is. So put
-- into one row as many messages as it can hold without being moved out of its table: 7.9 kB of them. A page is known
-- by its last offset: the highest one is the head, and a reader goes on at the first one that is not behind him. It
-- keeps every promise.
--
-- What it costs: a page must be cut into messages again whenever somebody wants one of them. It pays when the reader
-- takes pages whole and cuts them himself. And it gains nothing for messages that are published one by one: they get a
-- page each.
--
-- Left out, to keep the page short: the checks of the arguments, numbered publishes, the limit of a fetch in bytes,
-- places given by a timestamp, lags in seconds, and the removal of pages with their topic.

create table if not exists queue.page (
    topic_id     integer not null,
    first_offset bigint not null,
    last_offset  bigint not null,
    published_at timestamptz not null,
    keys         text[],
    headers      json,
    payloads     json not null,
    primary key (topic_id, last_offset)
) with (toast_tuple_target = 8160); -- up to here a row is neither packed nor moved out of its table

create or replace function queue.publish_batch(
    p_topic text, p_payloads json, p_keys text[] default null, p_headers json default null,
    p_producer text default null, p_sequence bigint default null,
    out first_offset bigint, out last_offset bigint, out duplicate boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_topic_id integer := queue.lock_topic(p_topic);
    v_head     bigint := (select t.head from queue.topics t where t.topic_id = v_topic_id);
    v_now      timestamptz := clock_timestamp();
begin
    with message as (
        select b.*, max(3 + octet_length(b.payload::text) + coalesce(7 + octet_length(b.key), 0)
                        + coalesce(2 + octet_length(b.headers::text), 0)) over () as longest
        from rows from (json_array_elements(p_payloads), unnest(p_keys), json_array_elements(p_headers))
             with ordinality as b(payload, key, headers, n)
    ), published as (
        insert into queue.page (topic_id, first_offset, last_offset, published_at, keys, headers, payloads)
        select v_topic_id, v_head + min(m.n), v_head + max(m.n), v_now,
               case when p_keys is not null then array_agg(m.key order by m.n) end,
               case when p_headers is not null then json_agg(m.headers order by m.n) end,
               json_agg(m.payload order by m.n)
        from message m
        group by (m.n - 1) / greatest(7900 / m.longest, 1)
        returning page.last_offset
    )
    select v_head + 1, max(p.last_offset), false into first_offset, last_offset, duplicate from published p;
end
$$;

-- the pages, cut into messages
create or replace view queue.page_messages as
select p.topic_id, p.last_offset, p.first_offset + m.n - 1 as "offset", p.published_at, m.key,
       case when json_typeof(m.headers) = 'object' then m.headers end as headers, m.payload
from queue.page p
cross join rows from (json_array_elements(p.payloads), unnest(p.keys), json_array_elements(p.headers))
     with ordinality as m(payload, key, headers, n);

create or replace view queue.messages as
select t.name as topic, m."offset", m.published_at, m.key, m.headers, m.payload
from queue.page_messages m
join queue.topic t using (topic_id);

create or replace view queue.topics as
select t.name as topic,
       t.description,
       t.created_at,
       t.floor,
       coalesce((select max(p.last_offset) from queue.page p where p.topic_id = t.topic_id), t.floor - 1) as head,
       (select count(*) from queue.subscriber s where s.topic_id = t.topic_id) as subscribers,
       t.topic_id
from queue.topic t;

create or replace function queue.slice(p_topic_id integer, p_first bigint, p_limit integer, p_max_bytes bigint)
returns setof queue.message
language sql stable
as $$
    select m.topic_id, m."offset", m.published_at, m.key, m.headers, m.payload
    from queue.page_messages m
    where m.topic_id = p_topic_id and m.last_offset >= p_first and m."offset" >= p_first
    order by m.last_offset, m."offset"
    limit p_limit
$$;
