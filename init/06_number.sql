-- Which of two versions is the newer one? These files have a number, and a lower one never replaces a higher: of two
-- servers that share a database, the older one leaves the functions of the newer one alone. Equal numbers tell nothing:
-- a developer's files replace others of the same number.
--
-- queue.number: the number of the files that are in force here, by whomever they were applied.
-- Raises, when the files are applied: QL091, the database has a higher number.

do $do$
declare
    -- raised by one when a version is published whose files of init/ are others than those of the version before
    v_number constant integer := 2;
begin
    if to_regprocedure('queue.number()') is not null then
        if queue.number() > v_number then
            raise exception using errcode = 'QL091', message = format(
                'database %I has number %s of init/, which these files, of number %s, do not replace',
                pg_catalog.current_database(), queue.number(), v_number);
        end if;
    end if;
    create schema if not exists queue;
    comment on schema queue is 'A multi-subscriber queue: every topic is a log, every subscriber has a position in it.';
    execute format($function$
        create or replace function queue.number()
        returns integer
        language sql immutable
        set search_path = pg_catalog, pg_temp
        set standard_conforming_strings = on
        as 'select %s'
    $function$, v_number);
end
$do$;

comment on function queue.number() is 'The number of the files of init/ that are in force here.';
