package test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/failpoint"
	"github.com/outrider-relay/outrider/test/harness"
)

// A relay that renews its hold on Kafka four times a second: markers and batches of one producer lie side by side.
func TestRenewalsLeaveTheFlowOfDataAlone(t *testing.T) {
	t.Parallel()
	kafka := harness.NewKafka(t, harness.KafkaOptions{})
	s := newScene(t, sharedPostgres(t), kafka, exactly+"timeouts: { broker: 1s }\n")
	hits := filepath.Join(t.TempDir(), "hits")
	relay := harness.StartRelay(t, harness.RelayOptions{
		Name: s.name, Postgres: s.url, Kafka: s.brokers, Config: s.config, Binary: failpointBuild(t), Env: []string{failpoint.Hits + "=" + hits},
	})
	relay.AwaitState(t, cdc.Relaying, patience)
	load := startLoad(t, s, 4, 2*time.Millisecond)
	load.awaitRows(t, 500)
	awaitRenewals(t, hits, 8)
	// And one falls into a time without Kafka.
	node := kafka.Nodes[0]
	node.Pause()
	t.Cleanup(node.Resume)
	awaitDegraded(t, relay, "", patience)
	node.Resume()
	awaitRenewals(t, hits, 8)
	load.awaitRows(t, 500)
	load.finish(t)
	s.awaitDelivered(t, harness.NoRepeats)
	if st := relay.AwaitState(t, cdc.Relaying, patience); len(st.Sessions) > 0 {
		t.Errorf("sessions ended: %v", st.Sessions)
	}
}
