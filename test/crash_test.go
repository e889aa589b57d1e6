package test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outrider-relay/outrider/test/harness"
)

// At-least-once, where a restart sends again what was not stored: how little that is, is the claim.
func TestKillsRepeatOnlyWhatWasNotStored(t *testing.T) {
	t.Parallel()
	onBothEnds(t, func(t *testing.T, pg *harness.Postgres) {
		s := newScene(t, pg, sharedKafka(t), atLeastOnce+"checkpoint: { interval: 100ms }\n")
		s.relaying(t).Kill() // what the very first start creates is there
		load := startLoad(t, s, 4, 5*time.Millisecond)
		adm := harness.Admin(t, s.brokers)
		var kills []kill
		for i := range 20 {
			relay := s.launch(t)
			if i%2 == 0 {
				before := harness.EndOffsets(t, s.brokers, s.destination)
				harness.AwaitRecords(t, s.brokers, before+1+rand.Int64N(2000), patience, s.destination)
			} else {
				// At any moment of the start, too; the moment itself is what is tested.
				<-time.After(rand.N(time.Second))
			}
			relay.Kill()
			ends, err := adm.ListEndOffsets(t.Context(), s.destination)
			if err != nil {
				t.Fatal(err)
			}
			kills = append(kills, kill{storedLSN(t, s), ends})
		}
		load.finish(t)
		s.relaying(t)
		s.awaitDelivered(t, harness.MayRepeat)
		checkRepeats(t, s, kills)
	})
}

// kill is what a killed relay left: its checkpoint, and the ends of the topic's partitions.
type kill struct {
	stored pglogrepl.LSN
	ends   kadm.ListedOffsets
}

// checkRepeats fails the test on a record that was sent again though it lay below the checkpoint of the last kill before it.
func checkRepeats(t *testing.T, s *scene, kills []kill) {
	t.Helper()
	seen := make(map[string]bool)
	repeats := 0
	for _, r := range harness.ReadAll(t, s.brokers, s.destination) {
		id := harness.Header(r, "id")
		if !seen[id] {
			seen[id] = true
			continue
		}
		repeats++
		last := -1
		for i, k := range kills {
			if end, _ := k.ends.Lookup(r.Topic, r.Partition); end.Offset <= r.Offset {
				last = i
			}
		}
		if p := position(t, r); last < 0 || p.LSN < kills[last].stored {
			t.Fatalf("offset %d of partition %d repeats position %s after kill %d, which left checkpoint %s", r.Offset, r.Partition, p, last, kills[max(last, 0)].stored)
		}
	}
	t.Logf("%d rows, %d repeats", len(seen), repeats)
}
