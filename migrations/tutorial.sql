create table if not exists public.outbox (
    id         serial       primary key,
    event_type varchar(255),
    payload    jsonb,
    created_at timestamp    default current_timestamp,
    processed  boolean      default false
);
comment on table public.outbox is 'Events to publish. Insert a row in the transaction that makes the change; the relay reads it from the log, so it may be deleted at any time, even in that transaction.';
comment on column public.outbox.id is 'Identifies the event to its consumers.';
comment on column public.outbox.event_type is 'What happened; names the Kafka topic.';
comment on column public.outbox.payload is 'The Kafka value, byte for byte, JSON as Postgres prints it; null is a tombstone.';
comment on column public.outbox.created_at is 'The start of the transaction.';
comment on column public.outbox.processed is 'For pollers. The relay neither reads nor writes it.';
