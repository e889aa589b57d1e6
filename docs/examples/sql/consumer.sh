#!/usr/bin/env bash
# Reads each partition from where the database has come to until its end, a transaction each. To be run again and again,
# as by cron.
set -euo pipefail
cd "$(dirname "$0")"
topic=outbox.event.order
sql() { psql "$DATABASE_URL" -X -q -At -v ON_ERROR_STOP=1 -v group="$KAFKA_GROUP" -v topic="$topic" "$@"; }

sql <<< 'create table if not exists kafka_offset
  (reader text, topic text, partition int, next bigint not null, primary key (reader, topic, partition));'

partitions=$(kcat -b "$KAFKA_BROKERS" -L -t "$topic" | sed -n 's/^ *partition \([0-9]*\),.*/\1/p')
for partition in $partitions; do
  next=$(sql -v partition="$partition" <<< "select coalesce(max(next), 0) from kafka_offset
    where reader = :'group' and topic = :'topic' and partition = :partition")
  kcat -b "$KAFKA_BROKERS" -C -t "$topic" -p "$partition" -o "$next" -e -q -f '%o\x1f%h\x1f%s\n' |
    sql -v partition="$partition" -f consumer.sql
done
