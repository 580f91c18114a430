-- The tables of the log.
--
-- Nothing on the hot path is ever updated or deleted: a publish inserts messages, an ack inserts a move.
-- Dead row versions cannot be pruned while any session holds an old snapshot, so a counter row that is
-- updated by every publish gets slower and slower beside one forgotten transaction; an insert does not.
--
-- There are no foreign keys on the hot tables: each check would lock and write the topic's row. The functions
-- check existence under the topic's lock, pg_advisory_xact_lock(42, topic_id), which is held to commit.
--
-- A role or a database may have settings that change how the text of a function is read. So each function pins
-- search_path and standard_conforming_strings, and one that catches errors pins exit_on_error. The few that Postgres
-- inlines pin nothing, which would keep it from that: their callers do, and their texts hold no backslash.
--
-- Our errors (SQLSTATE, raised with a message for people and a JSON object in DETAIL for programs):
--   QL001 topic_not_found      QL004 offset_out_of_range   QL007 invalid_name
--   QL002 subscriber_not_found QL005 stale_epoch           QL008 invalid_message
--   QL003 topic_exists         QL006 sequence_conflict     QL009 invalid_request
--   QL010 lease_expired        QL011 key_order             QL013 leases_out
-- and to whoever applies these files: QL090, the schema is not ours; QL091, the database has newer ones.

create table if not exists queue.topic (
    topic_id    integer generated always as identity primary key,
    name        text collate "C" not null unique,
    description text,
    created_at  timestamptz not null default clock_timestamp(),
    floor       bigint not null default 1
);

-- after the last number it begins again: queue.next_topic_id passes over those that are taken
do $$
begin
    if not (select s.seqcycle from pg_catalog.pg_sequence s where s.seqrelid = 'queue.topic_topic_id_seq'::regclass) then
        alter sequence queue.topic_topic_id_seq cycle;
    end if;
end
$$;

create table if not exists queue.message (
    topic_id     integer not null,
    "offset"     bigint not null,
    published_at timestamptz not null,
    key          text,
    headers      json,
    payload      json not null,
    primary key (topic_id, "offset")
);

create table if not exists queue.subscriber (
    subscriber_id bigint generated always as identity primary key,
    topic_id      integer not null,
    name          text collate "C" not null,
    created_at    timestamptz not null default clock_timestamp(),
    unique (topic_id, name)
);

create table if not exists queue.position (
    subscriber_id bigint not null,
    move          bigint not null,
    "offset"      bigint not null,
    epoch         bigint not null,
    moved_at      timestamptz not null default clock_timestamp(),
    cause         text not null check (cause in ('start', 'ack', 'seek', 'reset')),
    primary key (subscriber_id, move)
);

create table if not exists queue.publication (
    topic_id     integer not null,
    producer     text not null,
    sequence     bigint not null,
    first_offset bigint not null,
    last_offset  bigint not null,
    published_at timestamptz not null,
    primary key (topic_id, producer, sequence)
);

-- for queue.tidy, so that it does not read a million publications to find none that is old
create index if not exists publication_published_at on queue.publication (published_at);

create table if not exists queue.installation (
    digest       text not null,
    installed_at timestamptz not null default clock_timestamp()
);
alter table queue.installation add column if not exists number integer not null default 0;

-- for queue.tidy alone
create table if not exists queue.round (
    what text primary key,
    last bigint not null,
    busy integer not null
);

comment on table queue.topic is 'One row a topic; written when a topic is made or changed, never by a publish.';
comment on column queue.topic.topic_id is 'The topic''s number inside the database; not used again while anything is left of the topic.';
comment on column queue.topic.name is 'The topic''s name: 1 to 200 of A-Z a-z 0-9 . _ -';
comment on column queue.topic.description is 'What the topic is for, in its maker''s words.';
comment on column queue.topic.created_at is 'When the topic was made.';
comment on column queue.topic.floor is 'The first offset still kept.';

comment on table queue.message is 'The log: one row a message, append-only.';
comment on column queue.message.topic_id is 'The topic.';
comment on column queue.message."offset" is 'The message''s place in its topic: 1, 2, 3 … dense, in commit order.';
comment on column queue.message.published_at is 'Taken after the topic''s lock, so it never falls from one offset to the next.';
comment on column queue.message.key is 'The key that the publisher gave, if any.';
comment on column queue.message.headers is 'The headers that the publisher gave, if any: a JSON object.';
comment on column queue.message.payload is 'The message itself, as the JSON text that was published.';

comment on table queue.subscriber is 'One row a subscriber: a named, durable reader of one topic.';
comment on column queue.subscriber.subscriber_id is 'The subscriber''s number inside the database; never reused.';
comment on column queue.subscriber.topic_id is 'The topic that it reads.';
comment on column queue.subscriber.name is 'The subscriber''s name, unique in its topic.';
comment on column queue.subscriber.created_at is 'When it subscribed.';

comment on table queue.position is
    'Every move of every subscriber. The newest row is the position; the older ones are its history.';
comment on column queue.position.subscriber_id is 'The subscriber.';
comment on column queue.position.move is '1, 2, 3 … The primary key makes a move a compare-and-set: one writer wins.';
comment on column queue.position."offset" is 'The last offset that the subscriber is done with.';
comment on column queue.position.epoch is 'Random when the subscriber was made, raised by one at every reset and seek; an ack of another epoch is refused.';
comment on column queue.position.moved_at is 'When it moved.';
comment on column queue.position.cause is 'start, ack, seek or reset.';

comment on table queue.publication is
    'One row a numbered publish, so that its retry finds the first one''s offsets instead of storing it again.';
comment on column queue.publication.topic_id is 'The topic.';
comment on column queue.publication.producer is 'Who numbered the publish.';
comment on column queue.publication.sequence is 'The number.';
comment on column queue.publication.first_offset is 'The first offset that the publish was given.';
comment on column queue.publication.last_offset is 'The last offset that the publish was given.';
comment on column queue.publication.published_at is 'When it was published; old rows are trimmed by queue.tidy.';

comment on table queue.round is 'Up to where queue.tidy has come in looking for what nobody needs any more.';
comment on column queue.round.what is 'What it looks through.';
comment on column queue.round.last is 'The last number that it has looked at; 0 when it begins anew.';
comment on column queue.round.busy is 'Over how many rounds it goes on without a pause, since it has found something.';

comment on table queue.installation is
    'Which files of init/ were applied by a server, so that it leaves alone what was deployed since.';
comment on column queue.installation.digest is 'SHA-256 over the names and contents of the files.';
comment on column queue.installation.number is 'The number of the files; 0 before they had one.';
comment on column queue.installation.installed_at is 'When they were applied.';
