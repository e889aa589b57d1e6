create schema if not exists outrider;
comment on schema outrider is 'What the Outrider relays of this database keep: how far each has delivered the outbox to Kafka.';
