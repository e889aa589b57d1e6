create table if not exists outrider.partition (
    name      text    not null references outrider.checkpoint on delete cascade,
    topic     text    not null,
    partition integer not null,
    scan_from bigint  not null,
    owned     boolean not null default false,
    primary key (name, topic, partition)
);
comment on table outrider.partition is 'The Kafka partitions that a relay may have written, and where a restart begins to look for what it wrote.';
comment on column outrider.partition.name is 'The relay.';
comment on column outrider.partition.topic is 'The Kafka topic.';
comment on column outrider.partition.partition is 'The partition''s number in its topic.';
comment on column outrider.partition.scan_from is 'An offset at or below every record whose event lies above the checkpoint''s lsn.';
comment on column outrider.partition.owned is 'Whether the batch at scan_from is the relay''s own: then another one found there proves that Kafka lost or replaced the log.';
