-- The writer's database, beside the table outbox (migrations/outbox.sql): what the shop itself keeps.
create table orders (
    id          bigint primary key generated always as identity,
    customer    text   not null,
    total_cents bigint not null
);
