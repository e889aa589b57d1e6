-- Places orders, each with its event, for the relay to carry to Kafka:
--     psql -v count=10 -f writer.sql
\set ON_ERROR_STOP on

-- One order, with the function that came with the outbox table.
begin;
insert into orders (customer, total_cents) values ('ada', 100) returning id \gset
select outrider.publish('order', :'id', 'OrderPlaced',
    jsonb_build_object('order_id', :id, 'customer', 'ada', 'total_cents', 100));
commit;

-- Many of them, in one statement.
with placed as (
    insert into orders (customer, total_cents)
    select (array['ada', 'ben', 'cyd'])[1 + n % 3], 100 * n from generate_series(2, :count) n
    returning id, customer, total_cents
)
insert into outbox (aggregate_type, aggregate_id, event_type, payload)
select 'order', id, 'OrderPlaced', jsonb_build_object('order_id', id, 'customer', customer, 'total_cents', total_cents)
from placed;
