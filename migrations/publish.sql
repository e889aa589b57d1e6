-- The id is made first, rather than returned by the insert: that would ask for the right to select from the table,
-- and an application that publishes needs the right to insert alone.
create or replace function outrider.publish(
    aggregate_type text,
    aggregate_id   text,
    event_type     text,
    payload        jsonb,
    headers        jsonb default '{}'
) returns uuid
    language sql
    volatile
    security invoker
    set search_path = pg_catalog, pg_temp
begin atomic
    with event as materialized (
        select gen_random_uuid() as id
    ), inserted as (
        insert into public.outbox (id, aggregate_type, aggregate_id, event_type, payload, headers)
        select event.id, publish.aggregate_type, publish.aggregate_id, publish.event_type, publish.payload, coalesce(publish.headers, '{}')
        from event
    )
    select event.id from event;
end;
comment on function outrider.publish(text, text, text, jsonb, jsonb) is 'Publishes an event with the transaction that calls it, and returns its id.';
