-- The consumer's database, beside the table event_inbox (sink/inbox/schema.sql): what billing itself keeps.
create table balance (
    customer   text   primary key,
    owed_cents bigint not null
);
