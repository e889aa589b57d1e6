-- It can be run again, by several instances at once, and by a role that may create nothing where the table is there:
-- "create table if not exists" can do neither of the last two.
do $$
begin
    perform pg_advisory_xact_lock(hashtext('event_inbox'));
    if to_regclass('event_inbox') is null then
        create table event_inbox (
            consumer   text        not null check (consumer <> ''),
            id         text        not null check (id <> ''),
            entered_at timestamptz not null default now(),
            primary key (consumer, id)
        );
        create index event_inbox_entered_at on event_inbox (consumer, entered_at);
        comment on table event_inbox is 'The events that a consumer has processed, each entered by the transaction that did the work, so that an event that is delivered again is not processed again.';
        comment on column event_inbox.consumer is 'Who processed it; the same event is work for several.';
        comment on column event_inbox.id is 'The event, as in the first header "id" of its record.';
        comment on column event_inbox.entered_at is 'The start of that transaction. An id may go when its event can no longer be delivered.';
    end if;
end
$$;
