package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
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

// orders is the aggregate type of every key, for counters.
func orders(int) string { return "order" }

// counters writes transactions of 1 to 50 rows, each with the next number of its key, until stop is closed, and gives the
// number of rows by key. aggregateOf says what the i-th key belongs to at present.
func counters(t *testing.T, conn *pgx.Conn, stop <-chan struct{}, seed uint64, aggregateOf func(i int) string) <-chan map[string]int {
	t.Helper()
	done := make(chan map[string]int, 1)
	go func() {
		rng := rand.New(rand.NewPCG(seed, 0))
		written := make(map[string]int)
		defer func() { done <- written }()
		for {
			select {
			case <-stop:
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
	return done
}

// checkExactly fails the test unless the topics hold every number of each key once and in order.
func checkExactly(t *testing.T, brokers []string, written map[string]int, topics ...string) {
	t.Helper()
	total := 0
	for _, n := range written {
		total += n
	}
	harness.Eventually(t, time.Minute, fmt.Sprintf("%d records", total), func() error {
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
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	kafka := harness.NewKafka(t, harness.KafkaOptions{})
	kafka.CreateTopic(t, "outbox.event.order", 6, 1, nil)
	conn := pg.Connect(t)
	harness.Exec(t, conn, createOutbox)
	stop := make(chan struct{})
	options := harness.RelayOptions{Postgres: pg.URL(), Kafka: kafka.Brokers(), Config: exactly}
	relay := harness.StartRelay(t, options)
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	done := counters(t, conn, stop, seed, orders)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 20 {
		// Killed at any moment from the first step of the start on.
		<-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond)
		relay.Kill()
		relay = harness.StartRelay(t, options)
	}
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	close(stop)
	checkExactly(t, kafka.Brokers(), <-done, "outbox.event.order")
}

func TestFrozenLeaderIsFencedAndBecomesTheStandby(t *testing.T) {
	t.Parallel()
	pg := harness.NewPostgres(t, harness.PostgresOptions{Settings: map[string]string{"wal_sender_timeout": "2s"}})
	kafka := harness.NewKafka(t, harness.KafkaOptions{})
	kafka.CreateTopic(t, "outbox.event.order", 6, 1, nil)
	conn := pg.Connect(t)
	harness.Exec(t, conn, createOutbox)
	options := harness.RelayOptions{Postgres: pg.URL(), Kafka: kafka.Brokers(), Config: exactly}
	leader := harness.StartRelay(t, options)
	leader.AwaitState(t, cdc.Relaying, 30*time.Second)
	standby := harness.StartRelay(t, options)
	standby.AwaitState(t, cdc.Standby, 30*time.Second)
	stop := make(chan struct{})
	done := counters(t, conn, stop, 1, orders)
	for range 3 {
		harness.Eventually(t, 10*time.Second, "records flow", func() error {
			if st, err := leader.Status(); err != nil || st.Records.Relayed < 500 {
				return errors.Join(err, fmt.Errorf("%d relayed", st.Records.Relayed))
			}
			return nil
		})
		leader.Signal(syscall.SIGSTOP)
		standby.AwaitState(t, cdc.Relaying, 30*time.Second)
		leader.Signal(syscall.SIGCONT)
		leader.AwaitState(t, cdc.Standby, 30*time.Second)
		leader, standby = standby, leader
	}
	close(stop)
	checkExactly(t, kafka.Brokers(), <-done, "outbox.event.order")
}

func TestStandbyTakesOverFromAKilledLeader(t *testing.T) {
	t.Parallel()
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	kafka := harness.NewKafka(t, harness.KafkaOptions{})
	kafka.CreateTopic(t, "outbox.event.order", 6, 1, nil)
	conn := pg.Connect(t)
	harness.Exec(t, conn, createOutbox)
	options := harness.RelayOptions{Postgres: pg.URL(), Kafka: kafka.Brokers(), Config: exactly}
	leader := harness.StartRelay(t, options)
	leader.AwaitState(t, cdc.Relaying, 30*time.Second)
	stop := make(chan struct{})
	done := counters(t, conn, stop, 1, orders)
	for range 5 {
		standby := harness.StartRelay(t, options)
		standby.AwaitState(t, cdc.Standby, 30*time.Second)
		began := time.Now()
		leader.Kill()
		standby.AwaitState(t, cdc.Relaying, 30*time.Second)
		t.Logf("taken over after %s", time.Since(began).Round(time.Millisecond))
		leader = standby
	}
	close(stop)
	checkExactly(t, kafka.Brokers(), <-done, "outbox.event.order")
}
