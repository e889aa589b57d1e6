package test

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// takeovers is how many kills TestTakeoverFigures measures, unless TAKEOVERTEST is a number.
func takeovers(t *testing.T) int {
	t.Helper()
	text := os.Getenv("TAKEOVERTEST")
	if text == "" {
		return 50
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("TAKEOVERTEST is %q, not a number of kills", text)
	}
	return n
}

// Figures of the machine that the test runs on: how long nobody relays after the leader is killed under load. Each leader
// lives until it has saved; what kills in a row before that leave behind grows, and with it what the next one has to scan.
func TestTakeoverFigures(t *testing.T) {
	long(t)
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	leader := s.relaying(t)
	load := startLoad(t, s, 2, 5*time.Millisecond)
	var took []time.Duration
	for range takeovers(t) {
		load.awaitRows(t, 100)
		harness.Eventually(t, patience, "a save of the leader", s.savedBeyond(t))
		standby := s.launch(t)
		standby.AwaitState(t, cdc.Standby, patience)
		leader.Kill()
		killed := time.Now()
		harness.Eventually(t, patience, "records of the next leader", relayed(standby, 1))
		took = append(took, time.Since(killed).Round(time.Millisecond))
		leader = standby
	}
	load.finish(t)
	s.awaitDelivered(t, harness.NoRepeats)
	slices.Sort(took)
	t.Logf("%d takeovers: p50 %s, max %s, from the kill to the first new record acked", len(took), took[len(took)/2], took[len(took)-1])
}

// savedBeyond waits for a checkpoint of what is committed now.
func (s *scene) savedBeyond(t *testing.T) func() error {
	t.Helper()
	var now string
	queryRow(t, s.conn, `select pg_current_wal_lsn()::text`, nil, &now)
	return func() error {
		var saved bool
		queryRow(t, s.conn, `select lsn >= $2::pg_lsn from outrider.checkpoint where name = $1`, []any{s.name, now}, &saved)
		if !saved {
			return errors.New("the checkpoint lies before " + now)
		}
		return nil
	}
}

// And how long a start takes that has many partitions to fence and to scan.
func TestStartFigures(t *testing.T) {
	long(t)
	const partitions = 100
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("a"), partitions, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), unsaved)
	harness.Exec(t, s.conn, `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload)
		select $1, 'k' || n, 'Written', jsonb_build_object('n', n) from generate_series(1, 5000) n`, s.aggregate("a"))
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, patience, s.topic("a"))
	var registered int
	queryRow(t, s.conn, `select count(*) from outrider.partition where name = $1`, []any{s.name}, &registered)
	if registered != partitions {
		t.Fatalf("%d partitions are registered, not %d", registered, partitions)
	}
	relay.Kill()
	began := time.Now()
	relay = s.startRelaying(t, kafka.Brokers(), unsaved)
	took := time.Since(began).Round(time.Millisecond)
	relay.AwaitLog(t, "everything that Kafka held above the checkpoint has been met again", patience)
	t.Logf("%d partitions, a tail of 5000 events: relaying %s after the process began", partitions, took)
	if st, err := relay.Status(); err != nil || st.Records.SkippedDuplicates != 5000 {
		t.Errorf("%d events of the tail were met, %v", st.Records.SkippedDuplicates, err)
	}
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, patience, s.topic("a"))
}
