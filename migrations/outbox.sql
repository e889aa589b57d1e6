create table if not exists public.outbox (
    id             uuid        not null default gen_random_uuid(),
    aggregate_type text        not null,
    aggregate_id   text        not null,
    event_type     text        not null,
    payload        jsonb,
    headers        jsonb       not null default '{}',
    created_at     timestamptz not null default now(),
    primary key (id)
);
comment on table public.outbox is 'Events to publish. Insert a row in the transaction that makes the change; the relay reads it from the log, so it may be deleted at any time, even in that transaction.';
comment on column public.outbox.id is 'Identifies the event to its consumers.';
comment on column public.outbox.aggregate_type is 'The kind of thing that changed; names the Kafka topic.';
comment on column public.outbox.aggregate_id is 'The thing that changed; the Kafka key. Events with one key stay in commit order.';
comment on column public.outbox.event_type is 'What happened.';
comment on column public.outbox.payload is 'The Kafka value, byte for byte, JSON as Postgres prints it; null is a tombstone.';
comment on column public.outbox.headers is 'A JSON object; each member becomes a Kafka header.';
comment on column public.outbox.created_at is 'The start of the transaction.';
