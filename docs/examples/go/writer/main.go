// Command writer places orders, each with its event, for the relay to carry to Kafka.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/jackc/pgx/v5"
)

type orderPlaced struct {
	OrderID    int64  `json:"order_id"`
	Customer   string `json:"customer"`
	TotalCents int64  `json:"total_cents"`
}

// placeOrder commits the order and its event, or neither.
func placeOrder(ctx context.Context, db *pgx.Conn, customer string, totalCents int64) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		event := orderPlaced{Customer: customer, TotalCents: totalCents}
		err := tx.QueryRow(ctx, `insert into orders (customer, total_cents) values ($1, $2) returning id`,
			customer, totalCents).Scan(&event.OrderID)
		if err != nil {
			return fmt.Errorf("insert order: %w", err)
		}
		payload, err := json.Marshal(event)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into outbox (aggregate_type, aggregate_id, event_type, payload)
			values ('order', $1, 'OrderPlaced', $2)`, strconv.FormatInt(event.OrderID, 10), payload)
		if err != nil {
			return fmt.Errorf("insert event: %w", err)
		}
		return nil
	})
}

func main() {
	ctx := context.Background()
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	db, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	customers := []string{"ada", "ben", "cyd"}
	for i := range count {
		if err := placeOrder(ctx, db, customers[i%len(customers)], int64(100*(i+1))); err != nil {
			log.Fatal(err)
		}
	}
	if err := db.Close(ctx); err != nil {
		log.Fatal(err)
	}
}
