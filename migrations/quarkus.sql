create table if not exists public.outbox (
    id                 uuid         not null primary key,
    aggregatetype      varchar(255) not null,
    aggregateid        varchar(255) not null,
    type               varchar(255) not null,
    timestamp          timestamp    not null,
    payload            varchar(8000),
    tracingspancontext varchar(256)
);
comment on table public.outbox is 'Events to publish. Quarkus inserts a row in the transaction that makes the change, and deletes it at once; the relay reads it from the log.';
comment on column public.outbox.id is 'Identifies the event to its consumers.';
comment on column public.outbox.aggregatetype is 'The kind of thing that changed; names the Kafka topic.';
comment on column public.outbox.aggregateid is 'The thing that changed; the Kafka key. Events with one key stay in commit order.';
comment on column public.outbox.type is 'What happened.';
comment on column public.outbox.timestamp is 'When the application made the event.';
comment on column public.outbox.payload is 'The Kafka value, byte for byte; null is a tombstone.';
comment on column public.outbox.tracingspancontext is 'The trace that the event belongs to, as java.util.Properties writes it.';
