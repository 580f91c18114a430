-- The tables of the workers: a ledger, in which nothing on the hot path is ever updated or deleted.
--
-- Of the messages between a subscriber's position and its frontier, each is under just one hold that is not settled: "these
-- offsets are out until due_at". A lease is a hold, and so is what was given back, with or without a delay. Holds are taken
-- up in the order (due_at, act), by a cursor that only goes forward: nothing has to be deleted to be found no more, and
-- nothing is looked through twice. What is over is a range in queue.settled, and the position moves on over those.
-- Frontier, cursor and count travel in the newest hold, so that there is no row of state to update either.

-- the settings of a subscriber whose settings are not the usual ones
create table if not exists queue.crew (
    subscriber_id       bigint primary key,
    max_attempts        integer not null,
    backoff_seconds     double precision not null,
    backoff_cap_seconds double precision not null,
    ordered             boolean not null
);

create table if not exists queue.hold (
    subscriber_id bigint not null,
    act           bigint not null,
    epoch         bigint not null,
    origin        bigint,
    secret        bigint,
    held_at       timestamptz not null,
    due_at        timestamptz not null,
    frontier      bigint not null,
    redeliveries  bigint not null,
    cursor_due    timestamptz not null,
    cursor_act    bigint not null,
    cursor_offset bigint,
    attempt       integer not null,
    part          smallint not null,
    parts         smallint not null,
    kind          "char" not null,
    redriven      boolean not null,
    worker        text,
    offsets       int8multirange not null,
    primary key (subscriber_id, act),
    unique (subscriber_id, epoch, due_at, act)
);

create table if not exists queue.settled (
    subscriber_id bigint not null,
    epoch         bigint not null,
    first         bigint not null,
    last          bigint not null,
    act           bigint not null,
    counts        boolean not null,
    outcome       "char" not null,
    error         text,
    primary key (subscriber_id, epoch, counts, first, act)
);

create table if not exists queue.extension (
    subscriber_id bigint not null,
    lease         bigint not null,
    n             integer not null,
    expires_at    timestamptz not null,
    primary key (subscriber_id, lease, n)
);

create table if not exists queue.turn (
    subscriber_id bigint not null,
    epoch         bigint not null,
    key_hash      bigint not null,
    "offset"      bigint not null,
    n             integer not null,
    attempt       integer not null,
    parked        boolean not null,
    primary key (subscriber_id, epoch, key_hash, "offset", n)
);

-- off the hot path: updated when a dead letter is redriven or dies again, deleted when it is done
create table if not exists queue.dead (
    subscriber_id  bigint not null,
    "offset"       bigint not null,
    epoch          bigint not null,
    attempts       integer not null,
    reason         text not null,
    error          text,
    worker         text,
    died_at        timestamptz not null,
    redriven_epoch bigint,
    published_at   timestamptz,
    key            text,
    headers        json,
    payload        json,
    primary key (subscriber_id, "offset")
);

comment on table queue.crew is 'How the workers of a subscriber work, where that was set.';
comment on column queue.crew.subscriber_id is 'The subscriber.';
comment on column queue.crew.max_attempts is 'How often a message is leased before it is a dead letter.';
comment on column queue.crew.backoff_seconds is 'The delay after the first attempt; it doubles with each further one.';
comment on column queue.crew.backoff_cap_seconds is 'The longest delay.';
comment on column queue.crew.ordered is 'Whether messages of one key are worked on one after the other.';

comment on table queue.hold is
    'What the workers hold, and what waits for them again: offsets that are out until an instant. Insert-only.';
comment on column queue.hold.subscriber_id is 'The subscriber.';
comment on column queue.hold.act is '1, 2, 3 … a subscriber, through all its epochs. The newest row is the state of its work.';
comment on column queue.hold.epoch is 'The epoch in which it was made; in another one it is void.';
comment on column queue.hold.origin is 'Of what carries a lease on: the act under which its messages are settled.';
comment on column queue.hold.secret is 'Of a lease: what makes its id, beside the act. A crash may lose a lease; its act may be given out again.';
comment on column queue.hold.held_at is 'When its messages were leased, or given back.';
comment on column queue.hold.due_at is 'Until when it is out.';
comment on column queue.hold.frontier is 'The last offset that was ever leased in this epoch, or parked, as of this act.';
comment on column queue.hold.redeliveries is 'How many messages were leased for another attempt than the first, up to this act.';
comment on column queue.hold.cursor_due is 'With cursor_act: the last hold that was taken up, as of this act.';
comment on column queue.hold.cursor_act is 'See cursor_due.';
comment on column queue.hold.cursor_offset is 'Up to which of its offsets it was taken up; null: all.';
comment on column queue.hold.attempt is 'How often its messages have been leased in this epoch.';
comment on column queue.hold.part is 'A lease has a row for each attempt number in it: 0, 1, 2 …';
comment on column queue.hold.parts is 'How many rows the lease has.';
comment on column queue.hold.kind is
    'l a lease, c one carried on, r given back, u given back untried, v redriven, p passed on in its key, i no messages, only state.';
comment on column queue.hold.redriven is 'Whether its messages were dead letters: the position has passed them.';
comment on column queue.hold.worker is 'Who holds it, or held it last.';
comment on column queue.hold.offsets is 'Its messages.';

comment on table queue.settled is 'What is over under a hold: done, dead or given back. Insert-only.';
comment on column queue.settled.subscriber_id is 'The subscriber.';
comment on column queue.settled.epoch is 'The epoch.';
comment on column queue.settled.first is 'The first offset of a range.';
comment on column queue.settled.last is 'The last offset of the range.';
comment on column queue.settled.act is 'The hold under which it is over.';
comment on column queue.settled.counts is 'Whether the position may pass it: done or dead, and not redriven. These ranges do not overlap.';
comment on column queue.settled.outcome is 'd done, x dead, b given back.';
comment on column queue.settled.error is 'Why it was given back, in the worker''s words.';

comment on table queue.extension is 'Leases that were extended, once more with each row.';
comment on column queue.extension.subscriber_id is 'The subscriber.';
comment on column queue.extension.lease is 'The first act of the lease.';
comment on column queue.extension.n is '1, 2, 3 …; the newest row counts.';
comment on column queue.extension.expires_at is 'Until when it is held.';

comment on table queue.turn is 'With order: the messages of each key, and which of them wait for the one before.';
comment on column queue.turn.subscriber_id is 'The subscriber.';
comment on column queue.turn.epoch is 'The epoch.';
comment on column queue.turn.key_hash is 'The key''s hash: two keys that share one share an order.';
comment on column queue.turn."offset" is 'The message.';
comment on column queue.turn.n is '0, 1, 2 …; the newest row counts.';
comment on column queue.turn.attempt is 'How often it had been leased when it was parked.';
comment on column queue.turn.parked is 'Whether it waits for the one before it in its key; then no hold has it.';

comment on table queue.dead is 'Dead letters, each with a copy of its message.';
comment on column queue.dead.subscriber_id is 'The subscriber that has given it up.';
comment on column queue.dead."offset" is 'The message.';
comment on column queue.dead.epoch is 'The epoch in which it died.';
comment on column queue.dead.attempts is 'After how many attempts.';
comment on column queue.dead.reason is 'nacked or expired.';
comment on column queue.dead.error is 'The last error that a worker gave.';
comment on column queue.dead.worker is 'Who held it last.';
comment on column queue.dead.died_at is 'When it died.';
comment on column queue.dead.redriven_epoch is 'The epoch in which it was redriven: in that one it is out, and not listed.';
comment on column queue.dead.published_at is 'When the message was published.';
comment on column queue.dead.key is 'Its key, if any.';
comment on column queue.dead.headers is 'Its headers, if any.';
comment on column queue.dead.payload is 'The message itself.';
