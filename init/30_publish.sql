-- Publish: the only way into the log.
--
-- The topic's lock is taken first and held to commit, so offsets are given out in commit order and a reader
-- always sees a prefix of the log: nobody can be overtaken by a transaction that commits late. The next offset
-- is one backward probe of the primary key under that lock, so a rollback leaves no hole and there is no
-- counter to update.

-- queue.check_escapes: refuses JSON text with \u0000 or half a surrogate pair.
--   p_json  the text
-- Postgres stores such text as json but then fails every reader that says payload->>'x'.
-- Raises QL008 invalid_message. Locks nothing.
create or replace function queue.check_escapes(p_json json)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set exit_on_error = off
as $$
begin
    if strpos(p_json::text, '\u') > 0 then
        perform p_json -> ''; -- reads all of the text with its escapes; finds nothing
    end if;
exception when untranslatable_character or invalid_text_representation then
    raise exception using errcode = 'QL008',
        message = 'a message cannot hold \u0000 or half a surrogate pair: no reader could take it apart in SQL';
end
$$;

-- queue.open_brackets: how many arrays and objects JSON begins, and brackets its strings hold.
-- Written so that Postgres inlines it.
create or replace function queue.open_brackets(p_json text)
returns integer
language sql immutable
as $$
    select octet_length(p_json) - octet_length(replace(replace(p_json, '[', ''), '{', ''))
$$;

-- queue.is_nested_too_deep: whether JSON has more than 64 levels.
-- Returns whether. Locks nothing. jsonb tells it in a third of the time, but it keeps only the last of members that have one
-- name: if nothing got lost it has as many brackets. And not every number is one to it.
create or replace function queue.is_nested_too_deep(p_json json)
returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set exit_on_error = off
as $$
declare
    v_text     text := p_json;
    v_jsonb    jsonb;
    v_brackets text;
begin
    if strpos(v_text, '\') = 0 then -- an escape may be a bracket
        begin
            v_jsonb := v_text;
            if queue.open_brackets(v_jsonb::text) = queue.open_brackets(v_text) then
                return jsonb_path_exists(v_jsonb, 'strict $.**{64} ? (@.type() == "object" || @.type() == "array")');
            end if;
        exception when statement_too_complex or numeric_value_out_of_range then
            null;
        end;
    end if;
    v_brackets := translate(regexp_replace(v_text, '"(?:[^"\\]|\\.)*"', '', 'g'), E'{} \t\n\r,:+-.0123456789eEtrufalsn', '[]');
    for v_level in 1..64 loop -- what holds nothing goes, and with it one level
        v_brackets := replace(v_brackets, '[]', '');
    end loop;
    return v_brackets <> '';
end
$$;

-- queue.is_too_large_a_number: whether readers cannot hold a number: an integer of more than 4,300 characters, or one
-- with a point or an exponent beyond the largest double (1.8e308).
--   p_number  the number as it is written
-- Returns whether. Locks nothing.
create or replace function queue.is_too_large_a_number(p_number text)
returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set exit_on_error = off
as $$
declare
    v_parts text[];
begin
    if p_number !~ '[.eE]' then
        return length(p_number) > 4300;
    end if;
    perform p_number::float8;
    return false;
exception when numeric_value_out_of_range then
    -- or so close to 0 that it is 0 to a reader: where its first digit stands decides
    v_parts := regexp_match(p_number, '^-?(0|[1-9][0-9]*)(?:[.](0*)[0-9]*)?(?:[eE]([+-]?)0*([0-9]*))?$');
    if length(v_parts[4]) > 10 then
        return v_parts[3] <> '-';
    end if;
    return case v_parts[1] when '0' then -coalesce(length(v_parts[2]), 0) else length(v_parts[1]) end
           + coalesce(nullif(v_parts[4], '') , '0')::bigint * case v_parts[3] when '-' then -1 else 1 end > 0;
end
$$;

-- queue.check_message: refuses a message that no reader could hold.
--   p_place    its place in the batch, for the message
--   p_payload, p_key, p_headers  the message
-- Returns true. Raises QL008 invalid_message. Locks nothing.
create or replace function queue.check_message(p_place bigint, p_payload json, p_key text, p_headers json)
returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_bytes  bigint := octet_length(p_payload::text) + coalesce(octet_length(p_key), 0)
                       + coalesce(octet_length(p_headers::text), 0);
    v_json   json;
    v_number text;
begin
    if v_bytes > 1048576 then
        raise exception using errcode = 'QL008',
            message = format('message %s has %s bytes; a message has at most 1048576', p_place, v_bytes);
    end if;
    foreach v_json in array array[p_payload, p_headers] loop
        continue when v_json is null;
        select n[1] into v_number
        from regexp_matches(regexp_replace(v_json::text, '"(?:[^"\\]|\\.)*"', '""', 'g'), '-?[0-9][0-9.eE+-]*', 'g') n
        where queue.may_hold_a_large_number('[' || v_json::text) -- else nothing is taken apart
          and (length(n[1]) > 100 or n[1] ~ '[eE][+]?[0-9]{3}') and queue.is_too_large_a_number(n[1])
        limit 1;
        if found then
            raise exception using errcode = 'QL008',
                message = format('message %s: no reader could hold the number %s', p_place, left(v_number, 20));
        end if;
        if queue.is_nested_too_deep(v_json) then
            raise exception using errcode = 'QL008', message = format('message %s is nested deeper than 64', p_place);
        end if;
    end loop;
    return true;
end
$$;

-- queue.may_hold_a_large_number: whether JSON may hold a number that readers cannot.
--   p_json  its text
-- Returns false when it surely holds none: such a number has 100 digits in a row, or an exponent of 200. Locks nothing.
-- Written so that Postgres inlines it.
create or replace function queue.may_hold_a_large_number(p_json text)
returns boolean
language sql immutable
as $$
    select p_json ~ '[0-9]{20}|[0-9.][eE][+]?[0-9]{2}' -- a small automaton: it spares most texts the other
       and p_json ~ '[0-9]{100}|[[:space:][,:]-?[0-9]+([.][0-9]*)?[eE][+]?0*([2-9][0-9]{2}|[1-9][0-9]{3})'
$$;

-- queue.is_small: whether readers can surely hold a payload or headers, but for a number such as 1e400 in up to 4,300 bytes.
-- Returns whether. Locks nothing. Written so that Postgres inlines it: what is short is neither deep nor a long integer.
create or replace function queue.is_small(p_json json)
returns boolean
language sql stable
as $$
    select pg_column_size(p_json) <= 128
        or octet_length(p_json::text) <= 300000
           and queue.open_brackets(p_json::text) <= 64
           and (octet_length(p_json::text) <= 4300 or not queue.may_hold_a_large_number(p_json::text))
$$;

-- queue.is_same_batch: whether the log holds these messages from an offset on.
--   p_topic_id, p_first_offset, p_last_offset  where the first publish was stored
--   p_payloads, p_keys, p_headers              as for queue.publish_batch
-- Returns true when as many messages were stored and those still kept are the same. Locks nothing.
create or replace function queue.is_same_batch(
    p_topic_id integer, p_first_offset bigint, p_last_offset bigint, p_payloads json, p_keys text[], p_headers json)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
    select count(*) = p_last_offset - p_first_offset + 1
       and coalesce(bool_and(m."offset" is null
           or m.payload::text = b.payload::text
          and m.key is not distinct from b.key
          and m.headers::text is not distinct from nullif(b.headers::text, 'null')), false)
    from rows from (json_array_elements(p_payloads), unnest(p_keys), json_array_elements(p_headers))
         with ordinality as b(payload, key, headers, n)
    left join queue.message m on m.topic_id = p_topic_id and m."offset" = p_first_offset + b.n - 1
$$;

-- queue.check_parts: refuses payloads, keys and headers that do not fit together.
--   p_payloads, p_keys, p_headers  as for queue.publish_batch
-- Raises QL008 invalid_message. Locks nothing.
create or replace function queue.check_parts(p_payloads json, p_keys text[], p_headers json)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
    v_count bigint := case when json_typeof(p_payloads) = 'array' then json_array_length(p_payloads) end;
begin
    if coalesce(v_count, 0) = 0 then
        raise exception using errcode = 'QL008', message = 'payloads must be a JSON array of at least one payload';
    end if;
    if p_keys is not null and cardinality(p_keys) <> v_count then
        raise exception using errcode = 'QL008',
            message = format('there are %s payloads and %s keys', v_count, cardinality(p_keys));
    end if;
    if p_headers is not null then
        if json_typeof(p_headers) <> 'array' or json_array_length(p_headers) <> v_count then
            raise exception using errcode = 'QL008',
                message = format('headers must be a JSON array of %s, one for each payload', v_count);
        end if;
        if exists (select from json_array_elements(p_headers) h where json_typeof(h) not in ('object', 'null')) then
            raise exception using errcode = 'QL008', message = 'the headers of a message are a JSON object or null';
        end if;
    end if;
end
$$;

-- queue.check_snapshot: refuses a transaction that cannot see the topic's head.
--   p_topic     the topic's name, for the message
--   p_topic_id  its number
--   p_head      the head as the transaction sees it
-- At REPEATABLE READ a transaction sees the log as it was at its first statement, and may take an offset for free that is
-- not. Only the primary key knows better: the offset is tried, and given back.
-- Raises 40001. The topic's lock must be held.
create or replace function queue.check_snapshot(p_topic text, p_topic_id integer, p_head bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set exit_on_error = off
as $$
begin
    insert into queue.message (topic_id, "offset", published_at, payload)
    values (p_topic_id, p_head + 1, clock_timestamp(), 'null');
    raise exception using errcode = 'QL000', message = 'the offset is free';
exception
    when sqlstate 'QL000' then
        null;
    when unique_violation then
        raise exception using errcode = '40001',
            message = format('topic %L has moved on since this transaction took its snapshot: try again', p_topic);
end
$$;

-- queue.publish_batch: appends messages to a topic, all or none, with offsets one after the other.
--   p_topic     the topic's name
--   p_payloads  a JSON array, one element a message; its text is kept as it is
--   p_keys      as many keys, null where there is none; null for no keys at all
--   p_headers   a JSON array of as many objects or nulls; null for no headers at all
--   p_producer, p_sequence  number the publish: the same numbers again store nothing and return the first
--               one's offsets with duplicate = true, for as long as queue.tidy keeps them (a day)
-- Returns first_offset, last_offset, duplicate.
-- Raises QL001 topic_not_found, QL006 sequence_conflict (same numbers, other messages), QL008 invalid_message,
--   QL009 invalid_request; 40001 when the caller's REPEATABLE READ snapshot is older than the topic's head: roll
--   back and try again.
-- Takes the topic's lock until the transaction ends, so publish last in a long transaction. Several topics in one
-- transaction: in the order of their topic_id, or Postgres may have to resolve a deadlock (40P01, nothing done).
create or replace function queue.publish_batch(
    p_topic text, p_payloads json, p_keys text[] default null, p_headers json default null,
    p_producer text default null, p_sequence bigint default null,
    out first_offset bigint, out last_offset bigint, out duplicate boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set enable_seqscan = off -- a plan made while the log was small is kept when it has grown
as $$
declare
    v_topic_id integer;
    v_head     bigint;
    v_count    bigint;
    v_now      timestamptz;
    v_keys     text[];
    v_headers  json[];
    v_text     text := p_payloads;
    -- to look for numbers takes a sixth of what a batch of small messages takes; a large batch may hold a 1e400
    v_plain    boolean := p_keys is null and p_headers is null;
    v_suspect  boolean := (octet_length(v_text) <= 10000 and queue.may_hold_a_large_number(v_text)) is true
                          or queue.may_hold_a_large_number(p_headers::text) is true;
begin
    if not v_plain or json_typeof(p_payloads) is distinct from 'array' then
        perform queue.check_parts(p_payloads, p_keys, p_headers);
        v_keys := array(select unnest(p_keys)); -- whatever its bounds were, they are 1 to n now
        v_headers := array(select case when json_typeof(h) = 'object' then h end from json_array_elements(p_headers) h);
        v_suspect := v_suspect or exists (select from unnest(p_keys) k where octet_length(k) > 300000);
    end if;
    if (p_producer is null) <> (p_sequence is null) or p_sequence < 0 or length(p_producer) not between 1 and 200 then
        raise exception using errcode = 'QL009',
            message = 'a numbered publish has a producer of 1 to 200 characters and a sequence of 0 or more';
    end if;
    -- most JSON has no escapes at all, and one character is found several times as fast as two
    if strpos(v_text, '\') > 0 or strpos(p_headers::text, '\') > 0 then
        perform queue.check_escapes(p_payloads), queue.check_escapes(p_headers);
    end if;

    select t.topic_id into v_topic_id from queue.topic t where t.name = p_topic;
    perform pg_advisory_xact_lock(42, v_topic_id);
    -- only a topic that exists has a head: one that is gone may have left messages behind
    -- the clock may be set back while we run; published_at must not fall
    select coalesce(m."offset", t.floor - 1), greatest(clock_timestamp(), m.published_at)
    into v_head, v_now
    from queue.topic t
    left join lateral (select l."offset", l.published_at from queue.message l
                       where l.topic_id = t.topic_id order by l."offset" desc limit 1) m on true
    where t.topic_id = v_topic_id and t.name = p_topic;
    if not found then
        perform queue.missing(p_topic);
    end if;

    if p_producer is not null then
        select p.first_offset, p.last_offset into first_offset, last_offset from queue.publication p
        where p.topic_id = v_topic_id and p.producer = p_producer and p.sequence = p_sequence;
        duplicate := found;
        if duplicate then
            if not queue.is_same_batch(v_topic_id, first_offset, last_offset, p_payloads, p_keys, p_headers) then
                raise exception using errcode = 'QL006',
                    message = format('producer %L has published other messages as number %s', p_producer, p_sequence);
            end if;
            return;
        end if;
    end if;

    if current_setting('transaction_isolation') <> 'read committed' then
        perform queue.check_snapshot(p_topic, v_topic_id, v_head);
    end if;
    if v_plain and not v_suspect then -- the same as below, in a twentieth less time
        insert into queue.message (topic_id, "offset", published_at, payload)
        select v_topic_id, v_head + b.n, v_now, b.payload
        from json_array_elements(p_payloads) with ordinality as b(payload, n)
        where queue.is_small(b.payload) or queue.check_message(b.n, b.payload, null, null);
    else
        insert into queue.message (topic_id, "offset", published_at, key, headers, payload)
        select v_topic_id, v_head + b.n, v_now, v_keys[b.n], v_headers[b.n], b.payload
        from json_array_elements(p_payloads) with ordinality as b(payload, n)
        where not v_suspect and queue.is_small(b.payload)
              and queue.is_small(v_headers[b.n]) is not false
              or queue.check_message(b.n, b.payload, v_keys[b.n], v_headers[b.n]);
    end if;
    get diagnostics v_count = row_count;
    if v_count = 0 then
        perform queue.check_parts(p_payloads, p_keys, p_headers);
    end if;
    first_offset := v_head + 1;
    last_offset := v_head + v_count;
    duplicate := false;
    if p_producer is not null then
        insert into queue.publication (topic_id, producer, sequence, first_offset, last_offset, published_at)
        values (v_topic_id, p_producer, p_sequence, publish_batch.first_offset, publish_batch.last_offset, v_now);
    end if;
end
$$;

-- queue.publish: appends one message to a topic.
--   p_topic, p_producer, p_sequence  as for queue.publish_batch, which does the work
--   p_payload  the message, any JSON
--   p_key      its key, or null
--   p_headers  its headers, a JSON object, or null
-- Returns its offset. Raises and locks as queue.publish_batch. Written so that Postgres inlines it,
-- unless the key or the headers are volatile.
create or replace function queue.publish(
    p_topic text, p_payload json, p_key text default null, p_headers json default null,
    p_producer text default null, p_sequence bigint default null)
returns bigint
language sql
as $$
    select (queue.publish_batch(
        p_topic, pg_catalog.json_build_array(p_payload), case when p_key is not null then array[p_key] end,
        case when p_headers is not null then pg_catalog.json_build_array(p_headers) end,
        p_producer, p_sequence)).first_offset
$$;

comment on function queue.check_escapes is 'Refuses JSON text with an escaped NUL or half a surrogate pair.';
comment on function queue.open_brackets is 'How many arrays and objects JSON begins, and brackets its strings hold.';
comment on function queue.is_nested_too_deep is 'Whether JSON has more than 64 levels.';
comment on function queue.is_too_large_a_number is 'Whether readers cannot hold a number.';
comment on function queue.check_message is 'Refuses a message that no reader could hold.';
comment on function queue.is_small is 'Whether readers can surely hold a payload or headers, but for a number such as 1e400.';
comment on function queue.may_hold_a_large_number is 'Whether JSON may hold a number that no reader takes.';
comment on function queue.is_same_batch is 'Whether the log holds these messages from an offset on.';
comment on function queue.check_parts is 'Refuses payloads, keys and headers that do not fit together.';
comment on function queue.check_snapshot is 'Refuses a transaction that cannot see the topic''s head.';
comment on function queue.publish_batch is 'Appends messages to a topic, all or none, with offsets one after the other.';
comment on function queue.publish is 'Appends one message to a topic; returns its offset.';
