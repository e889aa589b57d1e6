create table if not exists outrider.checkpoint (
    name             text        primary key,
    format           integer     not null,
    generation       bigint      not null,
    instance         text        not null,
    heartbeat_at     timestamptz not null,
    system_id        text        not null,
    timeline         bigint      not null,
    slot             text        not null,
    lsn              pg_lsn      not null,
    kafka_cluster_id text,
    delivery         text        not null,
    producer_ids     bigint[]    not null default '{}',
    decode_hash      text,
    clean            boolean     not null default false,
    verdict          jsonb,
    decision         jsonb,
    updated_at       timestamptz not null
);
comment on table outrider.checkpoint is 'One row a relay: everything committed before its lsn is in Kafka. Written by the relay that owns the slot; deleting a row makes that relay start again from its slot.';
comment on column outrider.checkpoint.name is 'The relay, as in its setting "name".';
comment on column outrider.checkpoint.format is 'The least format a relay must understand to use this row; an older program refuses it.';
comment on column outrider.checkpoint.generation is 'Counts the sessions that took this row. A session writes only while the generation is its own, so an older one can not.';
comment on column outrider.checkpoint.instance is 'The process that took the row last.';
comment on column outrider.checkpoint.heartbeat_at is 'When that process last said that it lives, by this server''s clock.';
comment on column outrider.checkpoint.system_id is 'The database cluster that lsn belongs to, as IDENTIFY_SYSTEM prints it. An identity and an unsigned number, hence text.';
comment on column outrider.checkpoint.timeline is 'The timeline that lsn lies on.';
comment on column outrider.checkpoint.slot is 'The replication slot that the relay reads.';
comment on column outrider.checkpoint.lsn is 'The end of the last transaction up to which every event has been acknowledged by Kafka. The slot is never confirmed beyond it.';
comment on column outrider.checkpoint.kafka_cluster_id is 'The Kafka cluster that the events went to; null until one was reached.';
comment on column outrider.checkpoint.delivery is 'The promise that the row was written under: at-least-once or exactly-once.';
comment on column outrider.checkpoint.producer_ids is 'The Kafka producer ids that this relay has used. A restart recognises its own records by them.';
comment on column outrider.checkpoint.decode_hash is 'A digest of the settings that decide how events are counted within a transaction; null until it matters.';
comment on column outrider.checkpoint.clean is 'Whether the relay stopped with everything delivered and stored, so that Kafka holds nothing beyond lsn.';
comment on column outrider.checkpoint.verdict is 'Why the relay is blocked and waits for a person; null while it is not.';
comment on column outrider.checkpoint.decision is 'What a person decided about the verdict; the relay takes it once.';
comment on column outrider.checkpoint.updated_at is 'When anything but the heartbeat was last written, by this server''s clock.';
