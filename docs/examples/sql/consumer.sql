-- Adds each order to what its customer owes, once, however often the event is delivered. consumer.sh brings the records of
-- one partition: offset, headers and value, with 0x1f between them, a character that JSON text has only as an escape.
\set ON_ERROR_STOP on

begin;

create temporary table arrived ("offset" bigint, headers text, payload jsonb) on commit drop;
\copy arrived from pstdin with (format csv, delimiter e'\x1f', quote e'\x1e')

-- The work and the ids are committed together, or neither.
with event as (
    select distinct on (id) id, payload -- an event may be here twice
    from arrived, substring(headers from '^id=([^,]+)') id -- the relay's own headers come first
), entered as (
    insert into event_inbox (consumer, id) select 'billing', id from event on conflict do nothing returning id
)
insert into balance as b (customer, owed_cents)
select payload->>'customer', sum((payload->>'total_cents')::bigint) from event join entered using (id) group by 1
on conflict (customer) do update set owed_cents = b.owed_cents + excluded.owed_cents;

-- What other consumers commit to Kafka.
insert into kafka_offset as o (reader, topic, partition, next)
select :'group', :'topic', :partition, max("offset") + 1 from arrived having count(*) > 0
on conflict (reader, topic, partition) do update set next = excluded.next;

commit;
