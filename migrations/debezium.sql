create table if not exists public.outbox (
    id            uuid         not null default gen_random_uuid() primary key,
    aggregatetype varchar(255) not null,
    aggregateid   varchar(255) not null,
    type          varchar(255) not null,
    payload       jsonb
);
comment on table public.outbox is 'Events to publish. Insert a row in the transaction that makes the change; the relay reads it from the log, so it may be deleted at any time, even in that transaction.';
comment on column public.outbox.id is 'Identifies the event to its consumers.';
comment on column public.outbox.aggregatetype is 'The kind of thing that changed; names the Kafka topic.';
comment on column public.outbox.aggregateid is 'The thing that changed; the Kafka key. Events with one key stay in commit order.';
comment on column public.outbox.type is 'What happened.';
comment on column public.outbox.payload is 'The Kafka value, byte for byte, JSON as Postgres prints it; null is a tombstone.';
