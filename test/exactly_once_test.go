package test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

const createOutbox = `create table outbox (id uuid primary key default gen_random_uuid(), aggregate_type text not null, aggregate_id text not null,
	event_type text not null, payload jsonb, headers jsonb not null default '{}')`

// exactly is the setting under test.
const exactly = "kafka: { delivery: exactly-once }\n"

// aggregateOf is the aggregate type of every key of the scene, for counters.
func (s *scene) aggregateOf(int) string { return s.kind }

// counters writes transactions of 1 to 50 rows, each with the next number of its key, until stop is called, which gives the
// number of rows by key. aggregateOf says what the i-th key belongs to at present.
func counters(t *testing.T, conn *pgx.Conn, seed uint64, aggregateOf func(i int) string) (stop func() map[string]int) {
	t.Helper()
	end, done := make(chan struct{}), make(chan map[string]int, 1)
	go func() {
		rng := rand.New(rand.NewPCG(seed, 0))
		written := make(map[string]int)
		defer func() { done <- written }()
		for {
			select {
			case <-end:
				return
			default:
			}
			i, n := rng.IntN(20), 1+rng.IntN(50)
			aggregate := aggregateOf(i)
			key := fmt.Sprintf("%s%d", aggregate, i)
			_, err := conn.Exec(t.Context(), `insert into outbox (aggregate_type, aggregate_id, event_type, payload)
				select $1, $2, 'Counted', jsonb_build_object('n', i) from generate_series($3::int, $4::int) i`, aggregate, key, written[key]+1, written[key]+n)
			if err != nil {
				t.Errorf("write: %v", err)
				return
			}
			written[key] += n
		}
	}()
	stop = sync.OnceValue(func() map[string]int { close(end); return <-done })
	t.Cleanup(func() { stop() }) // where the test has failed before it came to that
	return stop
}

// checkExactly fails the test unless the topics hold every number of each key once and in order.
func checkExactly(t *testing.T, brokers []string, written map[string]int, topics ...string) {
	t.Helper()
	total := 0
	for _, n := range written {
		total += n
	}
	// What the ends of the partitions count is cheaper to ask, but markers are among it.
	harness.AwaitRecords(t, brokers, int64(total), patience, topics...)
	harness.Eventually(t, patience, fmt.Sprintf("%d records", total), func() error {
		if n := len(harness.ReadAll(t, brokers, topics...)); n < total {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	next := make(map[string]int)
	for _, r := range harness.ReadAll(t, brokers, topics...) {
		key := string(r.Key)
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(string(r.Value), `{"n": `), "}"))
		if err != nil {
			t.Fatalf("value %q", r.Value)
		}
		if n != next[key]+1 {
			t.Fatalf("key %s: %d follows %d (%s/%d, offset %d, position %s)", key, n, next[key], r.Topic, r.Partition, r.Offset, harness.Header(r, "outrider-position"))
		}
		next[key] = n
	}
	for key, n := range written {
		if next[key] != n {
			t.Errorf("key %s ends at %d, and %d were written", key, next[key], n)
		}
	}
}

func TestKillsRepeatNothingUnderExactlyOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	stop := counters(t, s.conn, seed, s.aggregateOf)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 20 {
		// Killed at any moment from the first step of the start on.
		<-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond)
		relay.Kill()
		relay = s.launch(t)
	}
	relay.AwaitState(t, cdc.Relaying, patience)
	checkExactly(t, s.brokers, stop(), s.destination)
}

func TestFrozenLeaderIsFencedAndBecomesTheStandby(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	harness.Exec(t, s.conn, `alter database `+s.conn.Config().Database+` set wal_sender_timeout = '2s'`)
	leader := s.relaying(t)
	standby := s.launch(t)
	standby.AwaitState(t, cdc.Standby, patience)
	stop := counters(t, s.conn, 1, s.aggregateOf)
	for range 3 {
		harness.Eventually(t, patience, "records flow", relayed(leader, 500))
		leader.Signal(syscall.SIGSTOP)
		standby.AwaitState(t, cdc.Relaying, patience)
		leader.Signal(syscall.SIGCONT)
		leader.AwaitState(t, cdc.Standby, patience)
		leader, standby = standby, leader
	}
	checkExactly(t, s.brokers, stop(), s.destination)
}

func TestStandbyTakesOverFromAKilledLeader(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	leader := s.relaying(t)
	stop := counters(t, s.conn, 1, s.aggregateOf)
	for range 5 {
		standby := s.launch(t)
		standby.AwaitState(t, cdc.Standby, patience)
		began := time.Now()
		leader.Kill()
		standby.AwaitState(t, cdc.Relaying, patience)
		t.Logf("taken over after %s", time.Since(began).Round(time.Millisecond))
		leader = standby
	}
	checkExactly(t, s.brokers, stop(), s.destination)
}
