-- A partition is made beside the table and then attached, which keeps no insert waiting as "partition of" would.
create or replace function outrider.add_partitions(
    outbox regclass,
    months integer default 12
) returns integer
    language plpgsql
    volatile
    security invoker
    set search_path = pg_catalog, pg_temp
as $function$
declare
    root     text;
    place    text;
    month    timestamp;
    part     text;
    added    integer := 0;
begin
    select n.nspname, c.relname into place, root
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = add_partitions.outbox and c.relkind = 'p';
    if root is null then
        raise exception '% is not partitioned', add_partitions.outbox using errcode = 'wrong_object_type';
    elsif octet_length(root) > 55 then
        raise exception 'the name of % leaves no room for a month in its partitions'' names', add_partitions.outbox using errcode = 'name_too_long';
    end if;
    perform pg_advisory_xact_lock(8031453545228428658); -- of two callers at once the second finds all made
    for month in
        select date_trunc('month', now() at time zone 'UTC') + make_interval(months => i) from generate_series(0, add_partitions.months) i
    loop
        part := root || to_char(month, '_YYYY_MM');
        if to_regclass(format('%I.%I', place, part)) is null then
            execute format('create table %I.%I (like %I.%I including all)', place, part, place, root);
            execute format('comment on table %I.%I is %L', place, part, 'The events of ' || to_char(month, 'YYYY-MM') || ', UTC.');
            execute format('alter table %I.%I attach partition %I.%I for values from (%L) to (%L)', place, root, place, part,
                month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
            added := added + 1;
        end if;
    end loop;
    return added;
end;
$function$;
comment on function outrider.add_partitions(regclass, integer) is 'Makes the monthly partitions of an outbox that are missing, from this month to that in so many months, and returns how many it made. Call it once a month: an insert without a partition fails.';
