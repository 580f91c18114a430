-- The views that people look at. The functions read through them too, so that head, position and lag
-- are each defined once. A column that a query does not use costs nothing: its subquery is dropped. (Not with
-- a volatile function in it, such as clock_timestamp: then it would be computed for everybody.)

-- queue.topics: every topic with its floor, head and number of subscribers.
create or replace view queue.topics as
select t.name as topic,
       t.description,
       t.created_at,
       t.floor,
       coalesce((select max(m."offset") from queue.message m where m.topic_id = t.topic_id), t.floor - 1) as head,
       (select count(*) from queue.subscriber s where s.topic_id = t.topic_id) as subscribers,
       t.topic_id
from queue.topic t;

-- queue.messages: every message with its topic's name.
create or replace view queue.messages as
select t.name as topic, m."offset", m.published_at, m.key, m.headers, m.payload
from queue.message m
join queue.topic t using (topic_id);

-- queue.subscribers: every subscriber with its position, lag and epoch.
create or replace view queue.subscribers as
select t.topic,
       s.name as subscriber,
       p."offset" as "position",
       p.epoch,
       t.head,
       t.head - p."offset" as lag,
       coalesce((select greatest(extract(epoch from statement_timestamp() - m.published_at), 0)
                 from queue.message m
                 where m.topic_id = t.topic_id and m."offset" = p."offset" + 1), 0) as lag_seconds,
       s.created_at,
       t.topic_id,
       s.subscriber_id,
       p.move,
       t.floor
from queue.subscriber s
join queue.topics t using (topic_id)
cross join lateral (select p."offset", p.epoch, p.move
                    from queue.position p
                    where p.subscriber_id = s.subscriber_id
                    order by p.move desc
                    limit 1) p;

comment on view queue.topics is 'Every topic with its floor, head and number of subscribers.';
comment on column queue.topics.topic is 'The topic''s name.';
comment on column queue.topics.description is 'What the topic is for.';
comment on column queue.topics.created_at is 'When it was made.';
comment on column queue.topics.floor is 'The first offset still kept.';
comment on column queue.topics.head is 'The last offset; 0 when nothing was ever published.';
comment on column queue.topics.subscribers is 'How many subscribers read it.';
comment on column queue.topics.topic_id is 'Its number inside the database.';

comment on view queue.messages is 'Every message with its topic''s name.';
comment on column queue.messages.topic is 'The topic''s name.';
comment on column queue.messages."offset" is 'The message''s place in its topic.';
comment on column queue.messages.published_at is 'When it was published.';
comment on column queue.messages.key is 'Its key, if any.';
comment on column queue.messages.headers is 'Its headers, if any.';
comment on column queue.messages.payload is 'The message itself.';

comment on view queue.subscribers is 'Every subscriber with its position, lag and epoch.';
comment on column queue.subscribers.topic is 'The topic''s name.';
comment on column queue.subscribers.subscriber is 'The subscriber''s name.';
comment on column queue.subscribers."position" is 'The last offset that it is done with; it fetches from the next one on.';
comment on column queue.subscribers.epoch is 'What its acks have to carry; it begins at random, and is raised by every reset and seek.';
comment on column queue.subscribers.head is 'The last offset of its topic.';
comment on column queue.subscribers.lag is 'How many messages it has before it: head - position.';
comment on column queue.subscribers.lag_seconds is 'For how long the next message has waited; 0 when there is none.';
comment on column queue.subscribers.created_at is 'When it subscribed.';
comment on column queue.subscribers.topic_id is 'Its topic''s number inside the database.';
comment on column queue.subscribers.subscriber_id is 'Its number inside the database.';
comment on column queue.subscribers.move is 'How many times it has moved: the number of the newest row in queue.position.';
comment on column queue.subscribers.floor is 'The first offset that its topic still keeps.';
