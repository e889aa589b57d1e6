package test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// rowsLeft counts the outbox.
func rowsLeft(t *testing.T, s *stage) (n int) {
	t.Helper()
	queryRow(t, s.conn, `select count(*) from public.outbox`, nil, &n)
	return n
}

func awaitRowsLeft(t *testing.T, s *stage, want int) {
	t.Helper()
	harness.Eventually(t, patience, fmt.Sprintf("%d rows are left", want), func() error {
		if n := rowsLeft(t, s); n != want {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

// With Kafka away nothing is delivered, so nothing may go, whatever its age; and what was delivered before may.
func TestNothingUndeliveredIsEverPruned(t *testing.T) {
	t.Parallel()
	kafka := harness.NewKafka(t, harness.KafkaOptions{})
	s := newStage(t, sharedPostgres(t))
	topic := s.topic("a")
	kafka.CreateTopic(t, topic, 3, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), exactly+"outbox: { retention: 1ms }\n")
	harness.WriteRows(t, s.conn, s.aggregate("a"), 1, 1500, 10)
	harness.AwaitRecords(t, kafka.Brokers(), 1500, patience, topic)
	awaitRowsLeft(t, s, 0) // the relay is idle, and stores for this

	node := kafka.Nodes[0]
	node.Kill()
	start := restart(t, node)
	harness.WriteRows(t, s.conn, s.aggregate("a"), 1501, 1600, 10)
	awaitDegraded(t, relay, "", patience)
	harness.Throughout(t, 4*time.Second, "undelivered rows stay", func() error { // several rounds of retention
		if n := rowsLeft(t, s); n != 100 {
			return fmt.Errorf("%d of 100 are left", n)
		}
		return nil
	})
	start()
	harness.AwaitRecords(t, kafka.Brokers(), 1600, patience, topic)
	awaitRowsLeft(t, s, 0)
	if code := relay.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	harness.WriteRows(t, s.conn, s.aggregate("a"), 1601, 1610, 10)
	if _, log := s.outrider(t, 1, "prune", "--older-than", "0s"); !strings.Contains(log, "does not run") {
		t.Error(log)
	}
	if n := rowsLeft(t, s); n != 10 {
		t.Errorf("%d of 10 rows are left, that no relay has read", n)
	}
}

func TestPruneTakesDeliveredRowsOfAnIdleRelay(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 2500, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	if out, _ := s.outrider(t, 0, "prune", "--older-than", "1h"); !strings.HasPrefix(out, "0 rows") {
		t.Errorf("young rows: %s", out)
	}
	if out, _ := s.outrider(t, 0, "prune", "--older-than", "0s", "--json"); !strings.Contains(out, `"rows":2500`) {
		t.Error(out)
	}
	if n := rowsLeft(t, s.stage); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if st, err := relay.Status(); err != nil || len(st.Sessions) > 0 {
		t.Error(errors.Join(err, fmt.Errorf("%+v", st)))
	}
}
