package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/test/harness"
)

// awaitOwn waits until topics hold that many records of a relay, and fails the test unless they are the rows of its outbox,
// each once and in the order of its key within a topic, whatever else is there.
func awaitOwn(t *testing.T, s *stage, brokers []string, rows int64, topics ...string) {
	t.Helper()
	harness.Eventually(t, patience, fmt.Sprintf("%d records of %s", rows, s.name), func() error {
		seen, newest := make(map[int64]bool), make(map[string]int64) // numbers; by topic and key
		for _, r := range harness.ReadAll(t, brokers, topics...) {
			if !strings.HasPrefix(harness.Header(r, "outrider-position"), s.name+":") {
				continue
			}
			var row struct{ N int64 }
			if err := json.Unmarshal(r.Value, &row); err != nil {
				t.Fatalf("value %.60q: %v", r.Value, err)
			}
			lane := r.Topic + " " + string(r.Key)
			if seen[row.N] || row.N <= newest[lane] {
				t.Fatalf("%s: row %d again, or after row %d, at offset %d of %s/%d", s.name, row.N, newest[lane], r.Offset, r.Topic, r.Partition)
			}
			seen[row.N], newest[lane] = true, row.N
		}
		if n := int64(len(seen)); n != rows {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
}

func TestTwoDatabasesInOneTopicAreExactEach(t *testing.T) {
	t.Parallel()
	kafka, topic := sharedKafka(t), uniqueName(t)
	kafka.CreateTopic(t, topic, 4, 1, nil)
	config := unsaved + "outbox: { topic: " + topic + " }\n"
	var stages []*stage
	var relays []*harness.Relay
	var writers []*harness.Writer
	for range 2 {
		s := newStage(t, sharedPostgres(t))
		stages = append(stages, s)
		relays = append(relays, s.startRelaying(t, kafka.Brokers(), config))
		writers = append(writers, harness.StartWriter(t, s.url, time.Millisecond, 100, "order")) // of the same keys
	}
	for round := range 4 {
		i := round % 2
		harness.Eventually(t, patience, "records flow", relayed(relays[i], 300))
		relays[i].Kill()
		relays[i] = stages[i].startRelaying(t, kafka.Brokers(), config)
	}
	rows := make([]int64, 2)
	for i, w := range writers {
		rows[i] = w.Stop(t)
	}
	for i, s := range stages {
		awaitOwn(t, s, kafka.Brokers(), rows[i], topic)
	}
}

// A consumer that keeps the headers of what it has read, and writes them into an outbox of its own.
func TestHeadersThatAConsumerForwardsMisleadNobody(t *testing.T) {
	t.Parallel()
	const rows = 200
	kafka := sharedKafka(t)
	first, second := newStage(t, sharedPostgres(t)), newStage(t, sharedPostgres(t))
	same, other := first.topic("a"), second.topic("b")
	kafka.CreateTopic(t, same, 2, 1, nil)
	kafka.CreateTopic(t, other, 2, 1, nil)
	relay := first.startRelaying(t, kafka.Brokers(), unsaved)
	harness.WriteRows(t, first.conn, first.aggregate("a"), 1, rows, 10)
	awaitIDs(t, kafka.Brokers(), rows, false, same)

	next := second.startRelaying(t, kafka.Brokers(), unsaved)
	forward := func(records []*kgo.Record) {
		t.Helper()
		for i, r := range records {
			headers := make(map[string]string)
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			kind := []string{first.aggregate("a"), second.aggregate("b")}[i%2]
			// It numbers what it writes by itself.
			harness.Exec(t, second.conn, `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload, headers)
				values ($1, $2, 'Forwarded', jsonb_build_object('n', $3::bigint), $4)`, kind, string(r.Key), i+1, headers)
		}
	}
	forward(harness.ReadAll(t, kafka.Brokers(), same))
	awaitIDs(t, kafka.Brokers(), 2*rows, false, same, other)
	metrics, _, err := next.Get("/metrics")
	if err != nil || !strings.Contains(metrics, fmt.Sprintf("outrider_headers_dropped_total %d\n", rows)) {
		t.Errorf("the relay does not count the %d headers that it dropped (%v)", rows, err)
	}

	// Each finds its own again, and nothing else.
	relay.Kill()
	next.Kill()
	relay, next = first.startRelaying(t, kafka.Brokers(), unsaved), second.startRelaying(t, kafka.Brokers(), unsaved)
	harness.WriteRows(t, first.conn, first.aggregate("a"), rows+1, rows+10, 10)
	harness.WriteRows(t, second.conn, second.aggregate("b"), rows+1, rows+10, 10)
	awaitIDs(t, kafka.Brokers(), 2*rows+20, false, same, other)
	for _, r := range []*harness.Relay{relay, next} {
		if st, err := r.Status(); err != nil || st.Records.SkippedDuplicates != rows {
			t.Errorf("%d skipped (%v), want the %d that are there", st.Records.SkippedDuplicates, err, rows)
		}
	}
	awaitOwn(t, first, kafka.Brokers(), rows+10, same)
	awaitOwn(t, second, kafka.Brokers(), rows+10, same, other)
	for _, r := range harness.ReadAll(t, kafka.Brokers(), same, other) {
		positions := 0
		for _, h := range r.Headers {
			if h.Key == "outrider-position" {
				positions++
			}
		}
		if positions != 1 {
			t.Fatalf("a record has %d positions: %v", positions, r.Headers)
		}
	}
}
