// Command consumer adds each order to what its customer owes, once, however often the event is delivered.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/sink/inbox"
)

type orderPlaced struct {
	Customer   string `json:"customer"`
	TotalCents int64  `json:"total_cents"`
}

// handle commits the work and the event's id, or neither.
func handle(ctx context.Context, db *pgx.Conn, record *kgo.Record) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		first, err := inbox.Enter(ctx, tx, "billing", header(record, "id"))
		if err != nil || !first {
			return err
		}
		var order orderPlaced
		if err := json.Unmarshal(record.Value, &order); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into balance as b (customer, owed_cents) values ($1, $2)
			on conflict (customer) do update set owed_cents = b.owed_cents + excluded.owed_cents`, order.Customer, order.TotalCents)
		return err
	})
}

// header gives the first header of that name: the outbox row's own headers come after those of the relay.
func header(record *kgo.Record, name string) string {
	for _, h := range record.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// consume returns the first error. Started again, the consumer gets everything whose offset was not committed.
func consume(ctx context.Context) error {
	db, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	kafka, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Getenv("KAFKA_BROKERS"), ",")...),
		kgo.ConsumerGroup(os.Getenv("KAFKA_GROUP")),
		kgo.ConsumeTopics("outbox.event.order"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
	)
	if err != nil {
		return err
	}
	defer kafka.Close()
	for {
		fetches := kafka.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, record := range fetches.Records() {
			if err := handle(ctx, db, record); err != nil {
				return fmt.Errorf("partition %d, offset %d: %w", record.Partition, record.Offset, err)
			}
		}
		if err := kafka.CommitUncommittedOffsets(ctx); err != nil {
			return err
		}
	}
}

func main() {
	log.Fatal(consume(context.Background()))
}
