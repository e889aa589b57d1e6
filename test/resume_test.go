package test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/test/harness"
)

// A transaction whose rows are in Kafka before the relay could store anything of it is the largest tail that there is.
func TestKillInsideAHugeTransactionResumesWithinIt(t *testing.T) {
	resumeWithin(t, 200_000)
}

func TestKillInsideAHugeTransactionResumesWithLittleMemory(t *testing.T) {
	long(t)
	resumeWithin(t, 5_000_000)
}

// resumeWithin kills a relay when Kafka has a part of a transaction, and again when it has all of it.
func resumeWithin(t *testing.T, rows int) {
	const memory = 64 << 20 // of a relay that resumes, at its peak
	var peak int64
	s := newScene(t, sharedPostgres(t), sharedKafka(t), unsaved)
	relay := s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, rows, 20)
	wait := patience + time.Duration(rows)*100*time.Microsecond
	for _, want := range []int{rows / 3, rows} {
		harness.AwaitRecords(t, s.brokers, int64(want), wait, s.destination)
		notePeak(t, relay, &peak)
		relay.Kill()
		began := time.Now()
		relay = s.relaying(t)
		t.Logf("killed with %d rows or more published, the next relay streams after %s", want, time.Since(began).Round(time.Millisecond))
	}
	harness.WriteRows(t, s.conn, s.kind, rows+1, rows+1000, 20)
	harness.Eventually(t, wait, "the rows of the transaction are passed, those behind it relayed", func() error {
		st, err := relay.Status()
		// More than a million rows are stored as soon as they are acked, which the second kill may have come too late for.
		passed := st.Records.SkippedDuplicates == int64(rows) || st.Records.SkippedDuplicates == 0 && rows > 1_000_000
		if err == nil && (st.Records.Relayed != 1000 || !passed) {
			err = fmt.Errorf("%d are relayed, %d skipped", st.Records.Relayed, st.Records.SkippedDuplicates)
		}
		return err
	})
	notePeak(t, relay, &peak)
	if os.Getenv("RELAYTEST_RACE") == "" && peak > memory {
		t.Errorf("more than %d MiB", memory>>20)
	}
	checkTen(t, s, rows+1000)
}

// notePeak logs what the relay took, and keeps the largest peak.
func notePeak(t *testing.T, relay *harness.Relay, peak *int64) {
	t.Helper()
	used, err := relay.Usage()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the relay took %d MiB at its peak, and %s of CPU", used.PeakRSS>>20, used.CPU)
	*peak = max(*peak, used.PeakRSS)
}

// checkTen fails the test unless the scene's topic holds rows 1 to last of WriteRows, each once and in the order of its key.
func checkTen(t *testing.T, s *scene, last int) {
	t.Helper()
	const keys = 10
	var newest [keys]int64 // row of each key
	count := 0
	harness.EachRecord(t, s.brokers, func(r *kgo.Record) {
		var key, n int64
		if _, err := fmt.Sscanf(string(r.Key), "k%d", &key); err != nil || key < 0 || key >= keys {
			t.Fatalf("key %q", r.Key)
		}
		next := newest[key] + keys
		if newest[key] == 0 && key > 0 {
			next = key
		}
		if _, err := fmt.Sscanf(string(r.Value), `{"n": %d,`, &n); err != nil || n != next {
			t.Fatalf("offset %d of partition %d: row %d of key %d, not %d (%v)", r.Offset, r.Partition, n, key, next, err)
		}
		newest[key] = n
		count++
	}, s.destination)
	if count != last {
		t.Errorf("%d records, not %d", count, last)
	}
}
