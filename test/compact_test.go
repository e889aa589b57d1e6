package test

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// eager makes a topic's log be compacted as soon as somebody writes to it again.
var eager = map[string]string{"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01", "min.compaction.lag.ms": "0"}

// compacted waits until compaction has left one record of each of some keys in a topic of one partition, and ends
// compaction: what is published later stays.
func compacted(t *testing.T, brokers []string, topic string, keys int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	harness.Eventually(t, patience, "compaction of "+topic, func() error {
		// Only what somebody else writes rolls a segment, and the newest one is never compacted.
		if err := cl.ProduceSync(t.Context(), kgo.KeyStringRecord("stranger", "")).FirstErr(); err != nil {
			return err
		}
		if n := len(own(t, brokers, topic)); n != keys {
			return fmt.Errorf("%d records are left", n)
		}
		return nil
	})
	keep := "delete"
	if _, err := harness.Admin(t, brokers).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &keep}}, topic); err != nil {
		t.Fatal(err)
	}
}

// own gives how often a topic holds each event, without what a stranger wrote.
func own(t *testing.T, brokers []string, topic string) map[string]int {
	t.Helper()
	seen := ids(t, brokers, topic)
	delete(seen, "")
	return seen
}

func TestCompactionOfTheTailIsForAPersonToJudge(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic := s.topic("a")
	kafka.CreateTopic(t, topic, 1, 1, eager)
	relay := s.startRelaying(t, kafka.Brokers(), unsaved)
	s.insertN(t, "a", 300)
	awaitIDs(t, kafka.Brokers(), 300, false, topic)
	relay.Kill()
	const left = 10 // the newest of each key
	compacted(t, kafka.Brokers(), topic, left)

	relay = s.start(t, kafka.Brokers(), unsaved)
	awaitVerdict(t, relay, "tail incomplete")
	s.insertN(t, "a", 50)
	if seen := own(t, kafka.Brokers(), topic); len(seen) != left {
		t.Errorf("a blocked relay has published: %d events, not %d", len(seen), left)
	}
	s.decide(t, "--accept-repeats")
	relay.AwaitState(t, cdc.Relaying, patience)
	// Those that are gone are published again, and those that were found are not.
	harness.Eventually(t, patience, "350 events", func() error {
		seen := own(t, kafka.Brokers(), topic)
		for id, times := range seen {
			if times > 1 {
				t.Fatalf("event %s is in Kafka %d times", id, times)
			}
		}
		if len(seen) != 350 {
			return fmt.Errorf("there are %d", len(seen))
		}
		return nil
	})
	st, err := relay.Status()
	if err != nil || st.Records.SkippedDuplicates != left {
		t.Errorf("%d skipped (%v), want the %d that compaction left", st.Records.SkippedDuplicates, err, left)
	}
}

func TestCompactionAfterACleanStopNeedsNobody(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic := s.topic("a")
	kafka.CreateTopic(t, topic, 1, 1, eager)
	relay := s.startRelaying(t, kafka.Brokers(), unsaved)
	s.insertN(t, "a", 300)
	awaitIDs(t, kafka.Brokers(), 300, false, topic)
	if code := relay.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	const left = 10 // the newest of each key
	compacted(t, kafka.Brokers(), topic, left)
	s.startRelaying(t, kafka.Brokers(), unsaved)
	s.insertN(t, "a", 50)
	harness.Eventually(t, patience, "the events that are new", func() error {
		if seen := own(t, kafka.Brokers(), topic); len(seen) != left+50 {
			return fmt.Errorf("there are %d, and compaction left %d", len(seen), left)
		}
		return nil
	})
}
