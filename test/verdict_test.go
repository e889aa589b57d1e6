package test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// resolve runs `outrider resolve` and gives what it prints.
func resolve(t *testing.T, url string, args ...string) string {
	t.Helper()
	bin, err := harness.Build()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), bin, append([]string{"resolve", "--name", "orders", "--postgres", url, "--kafka", "localhost:1"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("resolve %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestPoisonRowBlocksUntilItIsSkipped(t *testing.T) {
	t.Parallel()
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	kafka := harness.NewKafka(t, harness.KafkaOptions{})
	kafka.CreateTopic(t, "outbox.event.order", 3, 1, nil)
	conn := pg.Connect(t)
	harness.Exec(t, conn, `create table outbox (id uuid primary key default gen_random_uuid(), aggregate_type text not null, aggregate_id text not null,
		event_type text not null, payload jsonb, headers jsonb not null default '{}')`)
	relay := harness.StartRelay(t, harness.RelayOptions{Postgres: pg.URL(), Kafka: kafka.Brokers()})
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	harness.Exec(t, conn, `insert into outbox (aggregate_type, aggregate_id, event_type, payload) select case when i = 5 then 'no such topic!' else 'order' end, 'o' || i, 'OrderPlaced', '{}' from generate_series(1, 10) i`)
	relay.AwaitState(t, cdc.Halted, 30*time.Second)
	shown := resolve(t, pg.URL())
	_, rest, found := strings.Cut(shown, "--skip ")
	if !found {
		t.Fatalf("resolve shows\n%s", shown)
	}
	position, _, _ := strings.Cut(rest, "\n")
	if told := resolve(t, pg.URL(), "--skip", position); !strings.Contains(told, "decided  skip "+position+", by ") {
		t.Errorf("after the decision:\n%s", told)
	}
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	awaitRecords(t, kafka.Brokers(), 9)
}
