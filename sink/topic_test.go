package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outrider-relay/outrider/sink/route"
)

func TestUnknownTopicHoldsOnlyItsOwnRows(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(3, "a"))
	s := startSession(t, c)
	for i := range int32(60) {
		s.append("later", i%3, 10)
		s.append("a", i%3, 10)
	}
	s.until("the other topic's rows are acked", func() bool { return s.records == 60 })
	if oldest := s.Oldest(); oldest != 0 {
		t.Errorf("the oldest unacked number is %d, and 0 waits", oldest)
	}
	if trouble := s.Trouble(); !strings.HasPrefix(trouble, "topic later: UNKNOWN_TOPIC_OR_PARTITION") || !strings.Contains(trouble, "kafka.topics.create") {
		t.Errorf("the trouble is %q", trouble)
	}
	if err := c.CreateTopic("later", 3, nil); err != nil {
		t.Fatal(err)
	}
	s.drain()
	s.checkDelivered("a")
	s.checkDelivered("later")
	if trouble := s.Trouble(); trouble != "" {
		t.Errorf("the trouble is still %q", trouble)
	}
	if said := s.logs.with("topic later"); len(said) != 2 {
		t.Errorf("a topic that was missing and came is told in %d lines: %q", len(said), said)
	}
}

func TestForbiddenTopicHoldsOnlyItsOwnRows(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a", "b"))
	forbidden := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "b", Err: kerr.TopicAuthorizationFailed, Count: -1})
	s := startSession(t, c)
	s.append("b", 0, 10)
	s.append("a", 0, 10)
	s.until("the other topic's row is acked", func() bool { return s.records == 1 })
	s.until("the trouble is told", func() bool { return strings.Contains(s.troubles.worst(), "TOPIC_AUTHORIZATION_FAILED") })
	forbidden.Remove()
	s.drain()
	s.checkDelivered("b")
}

func TestUnknownTopicIsGivenUpUnderSkip(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	s := startSession(t, c, func(cfg *Config) { cfg.OnPoison = Skip; cfg.Topics.Wait = 300 * time.Millisecond })
	for range 10 {
		s.append("typo", 0, 10)
		s.append("a", 0, 10)
	}
	s.drain()
	s.checkDelivered("a")
	if n := s.cfg.Stats.Poison(); n != 10 {
		t.Errorf("%d events are counted as given up, not 10", n)
	}
}

func TestMissingTopicsAreCreatedAsConfigured(t *testing.T) {
	c := newCluster(t)
	s := startSession(t, c, func(cfg *Config) {
		cfg.Topics = Topics{Create: true, Partitions: 4, ReplicationFactor: 1, Config: map[string]string{"retention.ms": "1234"}}
	})
	s.append("new", 3, 10)
	s.append("newer", 2, 10)
	s.drain()
	s.checkDelivered("new")
	s.checkDelivered("newer")
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(t.Context())
	if err != nil || len(topics["new"].Partitions) != 4 {
		t.Errorf("%d partitions, %v", len(topics["new"].Partitions), err)
	}
	configs, err := admin.DescribeTopicConfigs(t.Context(), "new")
	if err != nil || !slices.ContainsFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == "retention.ms" && c.MaybeValue() == "1234" }) {
		t.Errorf("configs %v, %v", configs, err)
	}
}

func TestTopicThatCannotBeCreatedIsToldOnceAndAskedForSlowly(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	refused := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "new", Err: kerr.PolicyViolation, Count: -1})
	s := startSession(t, c, func(cfg *Config) { cfg.Topics = Topics{Create: true, ReplicationFactor: 1} })
	s.append("new", 0, 10)
	ctx, cancel := context.WithTimeout(t.Context(), enough)
	defer cancel()
	if err := refused.Wait(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if said := s.logs.with("topic new"); len(said) != 1 || !strings.Contains(s.Trouble(), "POLICY_VIOLATION") {
		t.Errorf("trouble %q, and in the log %d lines, the first two: %q", s.Trouble(), len(said), said[:min(2, len(said))])
	}
	if soon, late := s.metadataAge(time.Now()), s.metadataAge(time.Now().Add(time.Minute)); soon != metadataSoon || late != topicRetry {
		t.Errorf("asked again after %s at first, and after %s in the long run", soon, late)
	}
	refused.Remove()
	s.drain()
	s.checkDelivered("new")
}

func TestGrownTopicWaitsForItsOldPartitions(t *testing.T) {
	s := newIdle(t, 2)
	a, l := s.topics["a"], s.newLeader(1)
	for _, q := range a.queues {
		s.follow(q, l)
	}
	s.append("a", 0, 10)
	s.append("a", 1, 10)
	parcels, _ := l.gather(time.Now())
	s.size(a, 5)
	s.append("a", 0, 10)
	waits := func(when string) {
		t.Helper()
		if len(a.queues) != 2 || len(a.lobby) != 1 || len(a.lobby[0].rows) != 1 {
			t.Fatalf("%s the new partitions are used", when)
		}
	}
	waits("while both old partitions have rows in flight")
	l.inFlight = len(parcels)
	for i, p := range parcels {
		if err := s.seal(p.batch); err != nil {
			t.Fatal(err)
		}
		s.answer(l, p, []int16{0, 19}[i])
	}
	waits("while one has a row that was refused")
	parcels[1].queue.retryAt = time.Time{}
	s.answer(l, s.gatherAll(l)[0], 0)
	if len(a.queues) != 5 || len(a.lobby) != 0 || a.queues[0].open.count() != 1 {
		t.Fatal("the new partitions are not used, and nothing is in the old ones")
	}
}

// Rows of a key keep their order when the topic gets more partitions: nothing goes to a new one while the old ones have rows.
func TestPartitionGrowthKeepsTheOrderOfKeys(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "a"))
	s := newSession(t, c, func(cfg *Config) {
		cfg.Routing = route.Settings{Topic: "${topic}", Columns: map[string]string{"key": "key"}}
		cfg.BatchBytes = 1 << 10
	})
	s.run()
	const keys = 20
	appendRows := func(n int) {
		t.Helper()
		for range n {
			e := s.row("a", 0, 50)
			e.Values[3].Data = fmt.Appendf(nil, "key-%d", s.next%keys)
			s.Begin()
			err := s.give("a", 0, e)
			s.End()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	appendRows(500)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for _, n := range []int{5, 9} {
		// The old partitions are held up, so that what comes meanwhile has to wait for them.
		late := c.Fault(produceFault("a", 0, 19, 5))
		appendRows(100)
		if res, err := admin.UpdatePartitions(t.Context(), n, "a"); err != nil || res.Error() != nil {
			t.Fatal(err, res.Error())
		}
		s.askRefresh()
		s.until("the growth is known", func() bool { return s.topics["a"].grown == n || len(s.topics["a"].queues) == n })
		appendRows(500)
		s.until("the new partitions are used", func() bool { return len(s.topics["a"].queues) == n })
		late.Remove()
		appendRows(500)
	}
	s.drain()
	got := c.read("a")
	if len(got) < 5 {
		t.Errorf("rows are in %d partitions only", len(got))
	}
	byKey := make(map[string][]*kgo.Record)
	total := 0
	for _, records := range got {
		for _, r := range records {
			byKey[string(r.Key)] = append(byKey[string(r.Key)], r)
			total++
		}
	}
	if total != int(s.next) {
		t.Errorf("%d records, not %d", total, s.next)
	}
	for key, records := range byKey {
		// What a consumer can see: in a partition offsets, across partitions nothing but that the old one was full before.
		slices.SortStableFunc(records, func(a, b *kgo.Record) int { return number(a) - number(b) })
		last := make(map[int32]int64)
		partition := int32(-1)
		for _, r := range records {
			if offset, seen := last[r.Partition]; seen && r.Offset <= offset {
				t.Fatalf("%s: record %d is out of order in partition %d", key, number(r), r.Partition)
			}
			if _, seen := last[r.Partition]; seen && r.Partition != partition {
				t.Fatalf("%s went back to partition %d with record %d", key, r.Partition, number(r))
			}
			last[r.Partition], partition = r.Offset, r.Partition
		}
	}
}

func number(r *kgo.Record) int {
	var n int
	if _, err := fmt.Sscan(string(r.Value), &n); err != nil {
		panic(err)
	}
	return n
}

// The brokers that the settings name may be gone while others lead.
func TestMetadataComeFromAnyKnownBroker(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(6, "a"))
	s := startSession(t, c, func(cfg *Config) { cfg.Brokers = c.ListenAddrs()[:1] })
	for shard := range int32(6) {
		s.append("a", shard, 10)
	}
	s.until("all is acked", func() bool { return s.records == 0 })
	c.kill(0)
	for shard := range int32(6) {
		s.append("a", shard, 10)
	}
	s.until("all is acked", func() bool { return s.records == 0 })
	s.checkDelivered("a")
	// Nothing of ours is led by the dead broker: it is nobody's trouble any more.
	s.until("there is no trouble", func() bool { return s.troubles.worst() == "" })
}

func TestRecreatedTopicEndsTheSession(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	s := startSession(t, c)
	for range 10 {
		s.batch("a", 0, 1, 10)
	}
	s.Begin()
	s.End()
	s.append("a", 0, 10)
	s.until("all is acked", func() bool { return s.records == 0 })
	if err := errors.Join(c.DeleteTopic("a"), c.CreateTopic("a", 1, nil)); err != nil {
		t.Fatal(err)
	}
	s.append("a", 0, 10)
	if err := s.fails(); !strings.Contains(err.Error(), "made anew") || !strings.Contains(err.Error(), "a/0") {
		t.Errorf("Run ended with %q", err)
	}
}

// A topic just made may be described before its partitions are.
func TestTopicWithoutPartitionsIsWaitedFor(t *testing.T) {
	s := newIdle(t, 0)
	s.append("a", 0, 10)
	s.apply(t.Context(), &metadata.Response{Topics: []metadata.ResponseTopic{{Name: "a"}}})
	if records, _ := s.InFlight(); records != 1 || len(s.topics["a"].lobby) != 1 {
		t.Errorf("%d records wait", records)
	}
}

// A topic is deleted because nothing is for it any more. It is neither in trouble nor made again; but what it held is remembered.
func TestDeletedTopicThatNobodyUsesIsNoTrouble(t *testing.T) {
	for _, create := range []bool{false, true} {
		c := newCluster(t, kfake.SeedTopics(1, "a", "b"))
		asked := c.asked(kmsg.Metadata)
		s := startSession(t, c, func(cfg *Config) { cfg.Topics = Topics{Create: create, ReplicationFactor: 1} })
		s.append("a", 0, 10)
		s.until("it is acked", func() bool { return s.records == 0 })
		if err := c.DeleteTopic("a"); err != nil {
			t.Fatal(err)
		}
		made := c.asked(kmsg.CreateTopics)
		s.refreshes(asked, 2)
		if trouble := s.Trouble(); trouble != "" || made() != 0 {
			t.Errorf("the trouble is %q, and it was made again %d times", trouble, made())
		}
		if age := s.metadataAge(time.Now().Add(time.Hour)); age != metadataMaxAge {
			t.Errorf("metadata are asked for every %s", age)
		}
		s.append("a", 0, 10)
		if !create {
			s.until("its next row is in trouble", func() bool { return strings.Contains(s.troubles.worst(), "create the topic") })
			continue
		}
		if err := s.fails(); !strings.Contains(err.Error(), "made anew") || made() == 0 {
			t.Errorf("its next row ended the session with %q, made again %d times", err, made())
		}
	}
}

// Rows may name any number of topics that do not exist.
func TestTopicThatNeverWasIsForgotten(t *testing.T) {
	s := newIdle(t, 1, func(cfg *Config) { cfg.OnPoison, cfg.Topics.Wait = Skip, time.Nanosecond })
	a, l := s.topics["a"], s.newLeader(1)
	s.follow(a.queues[0], l)
	a.queues[0].lastOffset = 7 // the next batch has to lie behind it
	s.append("typo", 0, 10)
	typo := s.topics["typo"]
	gone := &metadata.Response{Topics: []metadata.ResponseTopic{{Name: "typo", ErrorCode: codeUnknownTopic}, {Name: "a", ErrorCode: codeUnknownTopic}}}
	for range 3 {
		s.apply(t.Context(), gone)
	}
	if records, _ := s.InFlight(); records != 0 || s.topics["typo"] != typo {
		t.Fatalf("%d rows wait; forgotten at once: %v", records, s.topics["typo"] == nil)
	}
	typo.asked = typo.asked.Add(-time.Hour)
	s.apply(t.Context(), gone)
	if s.topics["typo"] != nil || s.topics["a"] != a {
		t.Errorf("in mind are %d topics", len(s.topics))
	}
	a.queues[0].lastOffset = -1
	s.apply(t.Context(), gone)
	if s.topics["a"] != nil || len(l.queues) != 0 {
		t.Errorf("one that was never written is in mind; its leader has %d queues", len(l.queues))
	}
}

// The row that waits for room has to find the topic that others know.
func TestTopicIsForgottenWhileARowWaitsForRoom(t *testing.T) {
	s := newIdle(t, 1, func(cfg *Config) { cfg.MaxInFlightBytes = smallestBuffer })
	s.append("a", 0, 10)
	done := make(chan error)
	go func() { done <- s.tryAppend("typo", 0, 10) }()
	var typo *topic
	s.until("the row waits", func() bool { typo = s.topics["typo"]; return typo != nil && len(typo.lobby) == 0 })
	s.mu.Lock()
	s.forget(typo)
	s.release(&s.topics["a"].queues[0].open)
	s.topics["a"].queues[0].open = batch{}
	s.mu.Unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if oldest := s.Oldest(); oldest != 1 {
		t.Errorf("the oldest unacked number is %d, and 1 waits", oldest)
	}
}

// Whoever makes the topic in the end.
func TestTroubleOfMakingATopicEndsWhenItIsThere(t *testing.T) {
	c := newCluster(t)
	c.ControlKey(kmsg.CreateTopics.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, errors.New("hang up"), true
	})
	s := startSession(t, c, func(cfg *Config) { cfg.Topics = Topics{Create: true, ReplicationFactor: 1} })
	s.append("new", 0, 10)
	s.until("the trouble is told", func() bool { return s.troubles.bySubject["topics"].what != "" })
	if err := c.CreateTopic("new", 1, nil); err != nil {
		t.Fatal(err)
	}
	s.drain()
	s.until("there is no trouble", func() bool { return s.troubles.worst() == "" })
}
