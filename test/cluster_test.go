package test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// threeBrokers is a cluster for tests that take one of its brokers away. Each gives it back whole.
func threeBrokers(t *testing.T) *harness.Kafka {
	t.Helper()
	k, err := startThree()
	if err != nil {
		t.Fatalf("start Kafka: %v", err)
	}
	return k
}

var startThree = harness.Share(func() (*harness.Kafka, error) {
	return harness.StartKafka(context.Background(), harness.KafkaOptions{Nodes: 3})
})

// ledBy gives the partitions of topic that a node leads, and those that others lead.
func ledBy(t *testing.T, brokers []string, topic string, node int) (its, others []int32) {
	t.Helper()
	topics, err := harness.Admin(t, brokers).ListTopics(t.Context(), topic)
	if err == nil {
		err = topics.Error()
	}
	if err != nil {
		t.Fatalf("leaders of %s: %v", topic, err)
	}
	for _, p := range topics[topic].Partitions.Sorted() {
		if p.Leader == int32(node) {
			its = append(its, p.Partition)
		} else {
			others = append(others, p.Partition)
		}
	}
	return its, others
}

// restart starts a killed node at once, or with the test at the latest.
func restart(t *testing.T, n *harness.KafkaNode) (now func()) {
	t.Helper()
	now = sync.OnceFunc(func() {
		if err := n.Start(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("start node %d: %v", n.ID, err)
		}
	})
	t.Cleanup(now)
	return now
}

// follow counts the records of some partitions of a topic, from their beginning.
type follow struct {
	cl    *kgo.Client
	count int
	keys  map[string]bool
}

func newFollow(t *testing.T, brokers []string, topic string, partitions []int32) *follow {
	t.Helper()
	from := make(map[int32]kgo.Offset)
	for _, p := range partitions {
		from[p] = kgo.NewOffset().AtStart()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &follow{cl: cl, keys: make(map[string]bool)}
}

// await waits until there are want records.
func (f *follow) await(t *testing.T, want int, patience time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for f.count < want {
		fetches := f.cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d records: there are %d after %s", want, f.count, patience)
		}
		fetches.EachRecord(func(r *kgo.Record) { f.count++; f.keys[string(r.Key)] = true })
	}
}

func TestPartitionWithoutLeaderHoldsOnlyItselfUntilTheBound(t *testing.T) {
	kafka, s := threeBrokers(t), newStage(t, sharedPostgres(t))
	topic, node := s.topic("a"), kafka.Nodes[2]
	kafka.CreateTopic(t, topic, 3, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), impatient)
	harness.WriteRows(t, s.conn, s.aggregate("a"), 1, 100, 100)
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, topic)
	dead, alive := ledBy(t, kafka.Brokers(), topic, node.ID)
	if len(dead) != 1 {
		t.Fatalf("node %d leads %v", node.ID, dead)
	}
	others := newFollow(t, kafka.Brokers()[:2], topic, alive)
	others.await(t, 1, 20*time.Second)

	node.Kill()
	start := restart(t, node)
	harness.WriteRows(t, s.conn, s.aggregate("a"), 101, 1100, 100)
	// 110 rows of each of the keys that the others hold.
	others.await(t, 110*len(others.keys), 20*time.Second)
	if n := len(others.keys); n == 0 || n == 10 {
		t.Fatalf("%d of 10 keys are in the partitions that go on: nothing is shown", n)
	}
	awaitDegraded(t, relay, "", 10*time.Second)

	harness.WriteRows(t, s.conn, s.aggregate("a"), 1101, 20_000, 1000)
	awaitStandstill(t, relay)
	st := awaitDegraded(t, relay, fmt.Sprintf("%s/%d", topic, dead[0]), 10*time.Second)
	if st.InFlight.Bytes > 2<<20 {
		t.Errorf("%d bytes in flight; max_in_flight_bytes is 2MiB", st.InFlight.Bytes)
	}
	start()
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 30*time.Second, topic)
	if st := relay.AwaitState(t, cdc.Relaying, 20*time.Second); len(st.Sessions) > 0 {
		t.Errorf("sessions ended: %v", st.Sessions)
	}
}

func TestLeaderKilledUnderLoadLosesNothing(t *testing.T) {
	kafka, s := threeBrokers(t), newStage(t, sharedPostgres(t))
	topic, node := s.topic("a"), kafka.Nodes[1]
	kafka.CreateTopic(t, topic, 6, 3, map[string]string{"min.insync.replicas": "2"})
	if led, _ := ledBy(t, kafka.Brokers(), topic, node.ID); len(led) == 0 {
		t.Fatalf("node %d leads no partition", node.ID)
	}
	relay := s.startRelaying(t, kafka.Brokers(), impatient)
	writer := harness.StartWriter(t, s.url, time.Millisecond, 200, s.aggregate("a"))
	harness.AwaitRecords(t, kafka.Brokers(), 500, 20*time.Second, topic)
	node.Kill()
	start := restart(t, node)
	survivors := []string{kafka.Nodes[0].Addr, kafka.Nodes[2].Addr}
	down := writer.Count()
	harness.AwaitRecords(t, survivors, down+500, 30*time.Second, topic)
	writer.Stop(t)
	st := relay.AwaitState(t, cdc.Relaying, 30*time.Second) // not waiting for the node that is away
	harness.AwaitDelivered(t, s.conn, survivors, repeatsOf(st), 30*time.Second, topic)
	start()
}

func TestTooFewReplicasHoldOneTopicAlone(t *testing.T) {
	kafka, s := threeBrokers(t), newStage(t, sharedPostgres(t))
	node := kafka.Nodes[1]
	kafka.CreateTopic(t, s.topic("strict"), 3, 3, map[string]string{"min.insync.replicas": "3"})
	kafka.CreateTopic(t, s.topic("lenient"), 3, 3, map[string]string{"min.insync.replicas": "1"})
	relay := s.startRelaying(t, kafka.Brokers(), impatient)
	writer := harness.StartWriter(t, s.url, 2*time.Millisecond, 100, s.aggregate("strict"), s.aggregate("lenient"))
	harness.AwaitRecords(t, kafka.Brokers(), 200, 20*time.Second, s.topic("strict"))
	node.Kill()
	start := restart(t, node)
	awaitDegraded(t, relay, "NOT_ENOUGH_REPLICAS", 20*time.Second)
	survivors := []string{kafka.Nodes[0].Addr, kafka.Nodes[2].Addr}
	harness.AwaitRecords(t, survivors, writer.Count()/2+200, 20*time.Second, s.topic("lenient"))
	writer.Stop(t)
	start()
	st := relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), repeatsOf(st), 30*time.Second, s.topic("strict"), s.topic("lenient"))
}
