"""Adds each order to what its customer owes, once, however often the event is delivered."""

import json
import os

import psycopg
from confluent_kafka import Consumer, KafkaException, Message


def handle(db: psycopg.Connection, record: Message) -> None:
    """Commits the work and the event's id, or neither."""
    with db.transaction():
        if not enter(db, "billing", header(record, "id")):
            return
        order = json.loads(record.value())
        db.execute(
            """insert into balance as b (customer, owed_cents) values (%s, %s)
               on conflict (customer) do update set owed_cents = b.owed_cents + excluded.owed_cents""",
            (order["customer"], order["total_cents"]),
        )


def enter(db: psycopg.Connection, consumer: str, event_id: str) -> bool:
    """Enters an event, and says whether it is there for the first time."""
    inserted = db.execute(
        "insert into event_inbox (consumer, id) values (%s, %s) on conflict do nothing", (consumer, event_id)
    )
    return inserted.rowcount == 1


def header(record: Message, name: str) -> str:
    """The first header of that name: the outbox row's own headers come after those of the relay."""
    return next(value for key, value in record.headers() if key == name).decode()


def main() -> None:
    """Raises what fails first. Started again, the consumer gets everything whose offset was not committed."""
    kafka = Consumer(
        {
            "bootstrap.servers": os.environ["KAFKA_BROKERS"],
            "group.id": os.environ["KAFKA_GROUP"],
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    kafka.subscribe(["outbox.event.order"])
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
        while True:
            records = kafka.consume(num_messages=100, timeout=1)
            for record in records:
                if record.error():
                    raise KafkaException(record.error())
                handle(db, record)
            if records:
                kafka.commit(asynchronous=False)


if __name__ == "__main__":
    main()
