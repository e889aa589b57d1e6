package test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/test/harness"
)

// The numbers of the rows ascend in the order of the commits, which in most of these transactions is not that of the inserts.
func TestPositionsOfTransactionsOfEveryShapeSurviveCrashes(t *testing.T) {
	t.Parallel()
	shapes := []struct {
		name  string
		write func(t *testing.T, s *scene)
	}{
		{"PreparedAndCommitted", func(t *testing.T, s *scene) {
			harness.Exec(t, s.conn, `begin`)
			harness.WriteRows(t, s.conn, s.kind, 51, 100, 10)
			harness.Exec(t, s.conn, `prepare transaction '`+s.name+`'`)
			harness.WriteRows(t, s.conn, s.kind, 1, 50, 10)
			harness.Exec(t, s.conn, `commit prepared '`+s.name+`'`)
		}},
		{"PreparedAndRolledBack", func(t *testing.T, s *scene) {
			harness.Exec(t, s.conn, `begin`)
			harness.WriteRows(t, s.conn, s.kind, 1, 50, 10)
			harness.Exec(t, s.conn, `prepare transaction '`+s.name+`'`)
			harness.WriteRows(t, s.conn, s.kind, 101, 150, 10)
			harness.Exec(t, s.conn, `rollback prepared '`+s.name+`'`)
		}},
		{"PreparedForTheNextRelay", func(t *testing.T, s *scene) {
			harness.Exec(t, s.conn, `begin`)
			harness.WriteRows(t, s.conn, s.kind, 201, 250, 10)
			harness.Exec(t, s.conn, `prepare transaction '`+s.name+`'`)
			harness.WriteRows(t, s.conn, s.kind, 151, 200, 10)
		}},
		{"CommittedForThePreviousRelay", func(t *testing.T, s *scene) {
			harness.Exec(t, s.conn, `commit prepared '`+s.name+`'`)
		}},
		{"SubtransactionsThreeDeep", func(t *testing.T, s *scene) {
			harness.Exec(t, s.conn, `begin`)
			harness.WriteRows(t, s.conn, s.kind, 251, 260, 10)
			for depth := range 3 {
				harness.Exec(t, s.conn, fmt.Sprintf(`savepoint s%d`, depth))
				harness.WriteRows(t, s.conn, s.kind, 261+10*depth, 270+10*depth, 10)
			}
			harness.Exec(t, s.conn, `rollback to savepoint s1`) // 271 to 290
			harness.WriteRows(t, s.conn, s.kind, 291, 300, 10)
			harness.Exec(t, s.conn, `release savepoint s0`)
			harness.WriteRows(t, s.conn, s.kind, 301, 310, 10)
			harness.Exec(t, s.conn, `commit`)
		}},
		{"Copied", func(t *testing.T, s *scene) {
			_, err := s.conn.CopyFrom(t.Context(), pgx.Identifier{"public", "outbox"}, []string{"aggregate_type", "aggregate_id", "event_type", "payload"},
				pgx.CopyFromSlice(1000, func(i int) ([]any, error) {
					return []any{s.kind, fmt.Sprintf("k%d", i%10), "Written", json.RawMessage(fmt.Sprintf(`{"n": %d}`, 311+i))}, nil
				}))
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"RolledBack", func(t *testing.T, s *scene) {
			harness.Exec(t, s.conn, `begin`)
			harness.WriteRows(t, s.conn, s.kind, 1, 1000, 10)
			harness.Exec(t, s.conn, `rollback`)
		}},
	}
	s := newScene(t, sharedPostgres(t), sharedKafka(t), unsaved)
	relay := s.relaying(t)
	skipped := int64(0)
	count := func() {
		t.Helper()
		st, err := relay.Status()
		if err != nil {
			t.Fatal(err)
		}
		skipped += st.Records.SkippedDuplicates
	}
	for _, shape := range shapes {
		shape.write(t, s)
		s.awaitDelivered(t, harness.NoRepeats)
		// All that the shape has committed is above the checkpoint, and comes again.
		count()
		relay.Kill()
		relay = s.relaying(t)
	}
	harness.WriteRows(t, s.conn, s.kind, 2001, 2010, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	count()
	if rows := int64(250 + 40 + 1000); skipped < rows-100 { // a session that meets a tail stores what it has met
		t.Errorf("%d events were skipped; nearly all of %d came again", skipped, rows)
	}
	relay.Stop(t)
}
