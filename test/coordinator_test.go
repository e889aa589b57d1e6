package test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/failpoint"
	"github.com/outrider-relay/outrider/test/harness"
)

// survivors are the addresses of the other nodes.
func survivors(kafka *harness.Kafka, dead *harness.KafkaNode) []string {
	return slices.DeleteFunc(kafka.Brokers(), func(addr string) bool { return addr == dead.Addr })
}

// stageOn makes a stage whose transactions are coordinated by a node that is not the controller, and its relay.
func stageOn(t *testing.T, kafka *harness.Kafka, start func(*stage) *harness.Relay) (*stage, *harness.Relay, *harness.KafkaNode) {
	t.Helper()
	for range 20 { // a name chooses its coordinator by its hash
		s := newStage(t, sharedPostgres(t))
		if node := coordinator(t, kafka, s.name); node.ID != 1 {
			return s, start(s), node
		}
	}
	t.Fatal("every name is coordinated by the controller")
	return nil, nil, nil
}

func TestCoordinatorKilledWhileRunningAndAtTheStartRepeatsNothing(t *testing.T) {
	long(t)
	kafka := threeBrokers(t)
	hits := filepath.Join(t.TempDir(), "hits")
	launch := func(s *stage) *harness.Relay { // one that needs its coordinator all the time
		return harness.StartRelay(t, harness.RelayOptions{
			Name: s.name, Postgres: s.url, Kafka: kafka.Brokers(), Config: unsaved + "timeouts: { broker: 1s }\n", Binary: failpointBuild(t), Env: []string{failpoint.Hits + "=" + hits},
		})
	}
	s, relay, node := stageOn(t, kafka, launch)
	topic := s.topic("a")
	kafka.CreateTopic(t, topic, 6, 3, map[string]string{"min.insync.replicas": "2"})
	relay.AwaitState(t, cdc.Relaying, patience)
	writer := harness.StartWriter(t, s.url, 2*time.Millisecond, 100, s.aggregate("a"))
	awaitRenewals(t, hits, 3)
	node.Kill()
	start := restart(t, node)
	awaitRenewals(t, hits, 3)
	harness.AwaitRecords(t, survivors(kafka, node), writer.Count()+100, patience, topic)
	if st, err := relay.Status(); err != nil || len(st.Sessions) > 0 {
		t.Errorf("sessions ended: %v, %v", st.Sessions, err)
	}
	start()
	// The next one dies while a relay starts.
	relay.Kill()
	node = coordinator(t, kafka, s.name)
	if node.ID == 1 {
		node = kafka.Nodes[2] // the coordinator stays with the controller, which must not go; then it is a leader that goes
	}
	relay = launch(s)
	node.Kill()
	start = restart(t, node)
	relay.AwaitState(t, cdc.Relaying, patience)
	harness.AwaitRecords(t, survivors(kafka, node), writer.Count()+100, patience, topic)
	writer.Stop(t)
	start()
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, patience, topic)
}

// The leader of a partition that nobody has written to knows nothing of the producer, and takes whatever comes first: the
// batches behind the one that it refuses must wait for it. Each of many partitions has replicas enough again at a moment of
// its own.
func TestFirstBatchRefusedForWantOfReplicasKeepsItsPlace(t *testing.T) {
	long(t)
	kafka, s := threeBrokers(t), newStage(t, sharedPostgres(t))
	topic, node := s.topic("a"), kafka.Nodes[2]
	kafka.CreateTopic(t, topic, 30, 3, map[string]string{"min.insync.replicas": "3"})
	relay := s.startRelaying(t, kafka.Brokers(), "kafka: { delivery: exactly-once, batch_bytes: 4KiB }\ntimeouts: { broker: 1s }\n")
	node.Kill()
	start := restart(t, node)
	harness.Exec(t, s.conn, `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload)
		select $1, 'k' || n % 100, 'Written', jsonb_build_object('n', n, 'pad', repeat('x', 500)) from generate_series(1, 3000) n`, s.aggregate("a"))
	awaitDegraded(t, relay, "NOT_ENOUGH_REPLICAS", patience)
	start()
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, patience, topic)
	if st := relay.AwaitState(t, cdc.Relaying, patience); len(st.Sessions) > 0 {
		t.Errorf("sessions ended: %v", st.Sessions)
	}
}

func TestLeadersMovedUnderLoadRepeatNothing(t *testing.T) {
	long(t)
	kafka, s := threeBrokers(t), newStage(t, sharedPostgres(t))
	topic := s.topic("a")
	kafka.CreateTopic(t, topic, 3, 3, map[string]string{"min.insync.replicas": "2"})
	relay := s.startRelaying(t, kafka.Brokers(), unsaved)
	writer := harness.StartWriter(t, s.url, time.Millisecond, 100, s.aggregate("a"))
	for first := range 3 {
		harness.AwaitRecords(t, kafka.Brokers(), writer.Count()+200, patience, topic)
		kafka.MoveLeaders(t, topic, first)
	}
	harness.AwaitRecords(t, kafka.Brokers(), writer.Count()+200, patience, topic)
	relay.Kill()
	s.startRelaying(t, kafka.Brokers(), unsaved)
	writer.Stop(t)
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, patience, topic)
}
