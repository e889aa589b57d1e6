package test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/test/harness"
)

func TestHugeTransactionFitsInLittleMemory(t *testing.T) {
	const rows, keys, memory = 1_000_000, 10, 96 << 20
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t)
	began := time.Now()
	harness.WriteRows(t, s.conn, s.kind, 1, rows, 20)
	committed := time.Now()
	harness.AwaitRecords(t, s.brokers, rows, 5*patience, s.destination)
	t.Logf("committed after %s, delivered %s later", committed.Sub(began), time.Since(committed))
	var next [keys]int64 // of each key
	for i := range next {
		next[i] = int64(i)
	}
	next[0] = keys
	ordinals := make(map[int32]uint64) // last one of each partition
	count := 0
	harness.EachRecord(t, s.brokers, func(r *kgo.Record) {
		var key, n int64
		if _, err := fmt.Sscanf(string(r.Key), "k%d", &key); err != nil || key < 0 || key >= keys {
			t.Fatalf("key %q", r.Key)
		}
		if _, err := fmt.Sscanf(string(r.Value), `{"n": %d,`, &n); err != nil || n != next[key] {
			t.Fatalf("offset %d of partition %d: row %d of key %d, not %d (%v)", r.Offset, r.Partition, n, key, next[key], err)
		}
		next[key] += keys
		if p := position(t, r); p.Ordinal != uint64(n)-1 {
			t.Fatalf("row %d is at %v", n, p)
		} else if last, more := ordinals[r.Partition]; more && p.Ordinal <= last {
			t.Fatalf("partition %d: ordinal %d after %d", r.Partition, p.Ordinal, last)
		} else {
			ordinals[r.Partition] = p.Ordinal
		}
		count++
	}, s.destination)
	if count != rows {
		t.Errorf("%d records, not %d", count, rows)
	}
	used, err := relay.Usage()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("peak %d MiB, CPU %s", used.PeakRSS>>20, used.CPU)
	if os.Getenv("RELAYTEST_RACE") != "" {
		t.Log("peak memory is not judged: the race detector's own is among it")
	} else if used.PeakRSS > memory {
		t.Errorf("the relay took %d MiB at its peak, more than %d", used.PeakRSS>>20, memory>>20)
	}
}

func TestRowLargerThanAllInFlightIsDelivered(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), `kafka: { max_in_flight_bytes: 256KiB, batch_bytes: 64KiB }`)
	limit := strconv.Itoa(8 << 20)
	_, err := harness.Admin(t, s.brokers).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &limit}}, s.destination)
	if err != nil {
		t.Fatal(err)
	}
	s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 1000)
	harness.WriteRows(t, s.conn, s.kind, 101, 102, 3<<20)
	harness.WriteRows(t, s.conn, s.kind, 103, 200, 1000)
	s.awaitDelivered(t, harness.NoRepeats)
}
