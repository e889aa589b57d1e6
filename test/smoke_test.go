package test

import (
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

func TestCommittedRowsBecomeRecords(t *testing.T) {
	t.Parallel()
	name, kafka := uniqueName(t), sharedKafka(t)
	topic := "outbox.event." + name
	kafka.CreateTopic(t, topic, 3, 1, nil)
	url := sharedPostgres(t).NewDatabase(t)
	conn := harness.Connect(t, url)
	harness.CreateOutbox(t, conn)
	relay := harness.StartRelay(t, harness.RelayOptions{Name: name, Postgres: url, Kafka: kafka.Brokers()})
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	harness.WriteRows(t, conn, name, 1, 100, 10)
	harness.AwaitDelivered(t, conn, kafka.Brokers(), harness.NoRepeats, 30*time.Second, topic)
	if code := relay.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
