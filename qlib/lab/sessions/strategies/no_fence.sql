-- Strategy: no fence. Whoever once held a message may still say that it is done.
--
-- The idea: a lease only keeps others away for a while. Who comes back late has done the work after all, so its ack
-- is taken, and nobody has to be told off.
--
-- What goes wrong: who comes back late cannot know what happened meanwhile. Its lease has expired, the message was
-- leased to another worker, and that one is at work: two do the same work, and both are told that it is done once. And
-- what counts is who says it first: when the other one fails, its nack brings back nothing, or a message that is done.
-- A worker that undoes its work when it is refused has no chance to.
--
-- The queue as it is looks at the database's clock before an ack, a nack or an extension, and refuses with QL010 what
-- comes after the lease has expired, whether another has the messages by now or not. This is the function that says
-- so: here it says nothing, and what asked goes on.

create or replace function queue.lease_expired(p_why text)
returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
    if p_why <> 'has expired' then -- of an unknown lease nothing can be done
        raise exception using errcode = 'QL010', message = format('the lease %s: its messages may be another''s by now', p_why);
    end if;
end
$$;
