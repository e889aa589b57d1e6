package test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// remove deletes a topic, and returns when it is gone.
func remove(t *testing.T, brokers []string, topic string) {
	t.Helper()
	adm := harness.Admin(t, brokers)
	if _, err := adm.DeleteTopics(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, patience, "the topic is gone", func() error {
		topics, err := adm.ListTopics(t.Context())
		if err == nil && topics.Has(topic) {
			err = fmt.Errorf("it is still there")
		}
		return err
	})
}

func TestTopicMadeAnewWhileRunningIsLostData(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic := s.topic("a")
	kafka.CreateTopic(t, topic, 1, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), exactly)
	s.insertN(t, "a", 100)
	awaitIDs(t, kafka.Brokers(), 100, false, topic)
	remove(t, kafka.Brokers(), topic)
	kafka.CreateTopic(t, topic, 1, 1, nil)
	s.insertN(t, "a", 10)
	awaitVerdict(t, relay, "kafka lost data")
	s.decide(t, "--accept-loss")
	relay.AwaitState(t, cdc.Relaying, patience)
	s.insertN(t, "a", 10)
	awaitIDs(t, kafka.Brokers(), 20, true, topic) // the 10 that gave it away are above the checkpoint
}

func TestTopicThatComesBackWhileRunningIsFencedAndJudged(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	lost, other := s.topic("a"), s.topic("b")
	for _, topic := range []string{lost, other} {
		kafka.CreateTopic(t, topic, 1, 1, nil)
	}
	relay := s.startRelaying(t, kafka.Brokers(), exactly)
	s.insertN(t, "a", 100)
	awaitIDs(t, kafka.Brokers(), 100, false, lost)
	if code := relay.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	s.startRelaying(t, kafka.Brokers(), exactly).Kill() // its marker is where the next start begins to scan
	remove(t, kafka.Brokers(), lost)

	relay = s.start(t, kafka.Brokers(), exactly)
	s.insertN(t, "a", 10)
	awaitDegraded(t, relay, lost, patience)
	s.insertN(t, "b", 10)
	awaitIDs(t, kafka.Brokers(), 10, false, other)
	kafka.CreateTopic(t, lost, 1, 1, nil)
	relay.AwaitLog(t, "the session starts over", patience)
	awaitVerdict(t, relay, "kafka lost data")
	s.decide(t, "--accept-loss")
	relay.AwaitState(t, cdc.Relaying, patience)
	awaitIDs(t, kafka.Brokers(), 10, false, lost)
}

// grow gives a topic more partitions.
func grow(t *testing.T, brokers []string, topic string, to int) {
	t.Helper()
	if _, err := harness.Admin(t, brokers).UpdatePartitions(t.Context(), to, topic); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, patience, "leaders", func() error {
		ends, err := harness.Admin(t, brokers).ListEndOffsets(t.Context(), topic)
		if err == nil {
			err = ends.Error()
		}
		if err == nil && len(ends[topic]) != to {
			err = fmt.Errorf("of %d partitions", len(ends[topic]))
		}
		return err
	})
}

func TestPartitionsAddedBeforeARestartRepeatNothing(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic, brokers := s.topic("a"), kafka.Brokers()
	kafka.CreateTopic(t, topic, 2, 1, nil)
	relay := s.startRelaying(t, brokers, unsaved)
	writer := harness.StartWriter(t, s.url, 2*time.Millisecond, 100, s.aggregate("a"))
	harness.Eventually(t, patience, "records flow", relayed(relay, 200))
	for _, partitions := range []int{3, 8} { // twice without a save in between
		relay.Kill()
		grow(t, brokers, topic, partitions)
		relay = s.startRelaying(t, brokers, unsaved)
		harness.Eventually(t, patience, "records flow", relayed(relay, 200))
	}
	awaitUnmixed(t, s, brokers, topic, writer.Stop(t), 2)
}

func TestPartitionsAddedWhileRunningKeepTheOrderOfKeys(t *testing.T) {
	t.Parallel()
	long(t) // a relay looks for new partitions once a minute
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic, brokers := s.topic("a"), kafka.Brokers()
	kafka.CreateTopic(t, topic, 2, 1, nil)
	relay := s.startRelaying(t, brokers, unsaved)
	writer := harness.StartWriter(t, s.url, 5*time.Millisecond, 100, s.aggregate("a"))
	harness.Eventually(t, patience, "records flow", relayed(relay, 200))
	grow(t, brokers, topic, 8)
	harness.Eventually(t, 2*patience, "new partitions are used", func() error {
		ends, err := harness.Admin(t, brokers).ListEndOffsets(t.Context(), topic)
		if err != nil {
			return err
		}
		for p := int32(2); p < 8; p++ {
			if o, _ := ends.Lookup(topic, p); o.Offset > 50 {
				return nil
			}
		}
		return fmt.Errorf("none is")
	})
	relay.Kill()
	s.startRelaying(t, brokers, unsaved)
	awaitUnmixed(t, s, brokers, topic, writer.Stop(t), 1)
}

// awaitUnmixed waits until a topic holds rows 1 to last, each once, and fails the test unless each key has moved to another
// partition as often as the topic has grown, at most: rows that go back and forth overtake each other.
func awaitUnmixed(t *testing.T, s *stage, brokers []string, topic string, last int64, grown int) {
	t.Helper()
	awaitIDs(t, brokers, int(last), false, topic)
	type home struct {
		key       string
		partition int32
	}
	homes := make(map[int64]home)
	for _, r := range harness.ReadAll(t, brokers, topic) {
		var row struct{ N int64 }
		if err := json.Unmarshal(r.Value, &row); err != nil {
			t.Fatal(err)
		}
		homes[row.N] = home{string(r.Key), r.Partition}
	}
	moves, at := make(map[string]int), make(map[string]int32)
	for n := int64(1); n <= last; n++ {
		h := homes[n]
		if before, known := at[h.key]; known && before != h.partition {
			moves[h.key]++
		}
		at[h.key] = h.partition
	}
	if len(moves) == 0 {
		t.Errorf("no key of %s has moved: nothing is shown", s.name)
	}
	for key, n := range moves {
		if n > grown {
			t.Errorf("key %s moved %d times", key, n)
		}
	}
}
