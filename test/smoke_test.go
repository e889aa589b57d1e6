package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

func TestCommittedRowsBecomeRecords(t *testing.T) {
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	kafka := harness.NewKafka(t, harness.KafkaOptions{})
	kafka.CreateTopic(t, "outbox.event.order", 3, 1, nil)
	conn := pg.Connect(t)
	harness.Exec(t, conn, `create table outbox (id uuid primary key default gen_random_uuid(), aggregate_type text not null, aggregate_id text not null,
		event_type text not null, payload jsonb, headers jsonb not null default '{}')`)
	relay := harness.StartRelay(t, harness.RelayOptions{Postgres: pg.URL(), Kafka: kafka.Brokers()})
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	harness.Exec(t, conn, `insert into outbox (aggregate_type, aggregate_id, event_type, payload) select 'order', 'o' || i % 7, 'OrderPlaced', jsonb_build_object('i', i) from generate_series(1, 100) i`)
	harness.Eventually(t, 30*time.Second, "100 records", func() error {
		if n := harness.EndOffsets(t, kafka.Brokers(), "outbox.event.order"); n != 100 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	if code := relay.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// awaitRecords waits until the topic outbox.event.order holds n different events.
func awaitRecords(t *testing.T, brokers []string, n int) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, fmt.Sprintf("%d events", n), func() error {
		positions := make(map[string]bool)
		for _, r := range harness.ReadAll(t, brokers, "outbox.event.order") {
			positions[harness.Header(r, "outrider-position")] = true
		}
		if len(positions) != n {
			return fmt.Errorf("there are %d", len(positions))
		}
		return nil
	})
}
