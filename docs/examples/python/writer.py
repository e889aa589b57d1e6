"""Places orders, each with its event, for the relay to carry to Kafka."""

import os
import sys

import psycopg
from psycopg.types.json import Jsonb


def place_order(db: psycopg.Connection, customer: str, total_cents: int) -> None:
    """Commits the order and its event, or neither."""
    with db.transaction():
        (order_id,) = db.execute(
            "insert into orders (customer, total_cents) values (%s, %s) returning id", (customer, total_cents)
        ).fetchone()
        event = {"order_id": order_id, "customer": customer, "total_cents": total_cents}
        db.execute(
            """insert into outbox (aggregate_type, aggregate_id, event_type, payload)
               values ('order', %s, 'OrderPlaced', %s)""",
            (str(order_id), Jsonb(event)),
        )


if __name__ == "__main__":
    customers = ["ada", "ben", "cyd"]
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
        for i in range(int(sys.argv[1])):
            place_order(db, customers[i % len(customers)], 100 * (i + 1))
