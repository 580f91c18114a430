-- Functions that an earlier version had with other arguments. To drop one would fail those who are about to call it, with
-- "cache lookup failed for function": so it gets another name, which a call under way does not notice, and is dropped when
-- files are applied the next time.

do $$
declare
    v_function text;
    v_name     text;
    v_types    text;
begin
    foreach v_function in array array[
        'subscribe(text, text, text, bigint, timestamptz)',
        'read_on(text, text, bigint)',
        'fetch(text, text, integer, bigint, bigint)',
        'fetch_json(text, text, integer, bigint, bigint)']
    loop
        v_name := split_part(v_function, '(', 1);
        v_types := substr(v_function, length(v_name) + 1);
        begin
            execute format('drop function if exists queue.%s_before%s', v_name, v_types);
        exception when dependent_objects_still_exist then
            null; -- somebody's view, say, goes on with it
        end;
        if to_regprocedure('queue.' || v_function) is not null then
            execute format('alter function queue.%s rename to %s_before', v_function, v_name);
        end if;
    end loop;
end
$$;
