package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/test/harness"
)

// oldestPostgres is the oldest server that is supported.
const oldestPostgres = 14

// onBothEnds runs a test on a server of the newest and of the oldest version, side by side, or of the one that was asked for.
func onBothEnds(t *testing.T, test func(t *testing.T, pg *harness.Postgres)) {
	majors := []int{harness.NewestPostgres, oldestPostgres}
	if asked := sharedPostgres(t).Major; asked != harness.NewestPostgres {
		majors = []int{asked}
	}
	for _, major := range majors {
		t.Run(fmt.Sprintf("Postgres%d", major), func(t *testing.T) {
			t.Parallel()
			test(t, harness.NewPostgres(t, harness.PostgresOptions{Major: major}))
		})
	}
}

func TestRowsArriveInCommitOrderByteForByte(t *testing.T) {
	t.Parallel()
	onBothEnds(t, func(t *testing.T, pg *harness.Postgres) {
		s := newScene(t, pg, sharedKafka(t), exactly)
		relay := s.relaying(t)
		load := startLoad(t, s, 8, 0)
		load.awaitRows(t, 10_000)
		load.finish(t)
		s.awaitDelivered(t, harness.NoRepeats)
		if code := relay.Stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

// What Postgres was told it may forget must be in Kafka already: a confirm that comes too early loses nothing until the
// relay is killed, and is seen here without that.
func TestWhatIsConfirmedIsInKafka(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), atLeastOnce+"checkpoint: { interval: 20ms }\n")
	s.relaying(t)
	load := startLoad(t, s, 4, 0)
	type sample struct {
		confirmed pglogrepl.LSN
		ends      kadm.ListedOffsets
	}
	var samples []sample
	adm := harness.Admin(t, s.brokers)
	for began := time.Now(); time.Since(began) < 5*time.Second; {
		// In this order: each may only be ahead of the one before.
		confirmed := confirmedLSN(t, s)
		stored := storedLSN(t, s)
		ends, err := adm.ListEndOffsets(t.Context(), s.destination)
		if err != nil {
			t.Fatal(err)
		}
		if confirmed > stored {
			t.Fatalf("the slot is confirmed up to %s, and the checkpoint is %s", confirmed, stored)
		}
		if n := len(samples); n == 0 || samples[n-1].confirmed < confirmed {
			samples = append(samples, sample{confirmed, ends})
		}
	}
	load.finish(t)
	s.awaitDelivered(t, harness.NoRepeats)
	if len(samples) < 20 {
		t.Fatalf("the slot was seen at %d positions only", len(samples))
	}
	for _, r := range harness.ReadAll(t, s.brokers, s.destination) {
		commit := position(t, r).LSN
		for _, seen := range samples {
			end, _ := seen.ends.Lookup(r.Topic, r.Partition)
			if commit < seen.confirmed && r.Offset >= end.Offset {
				t.Fatalf("when the slot was confirmed up to %s, the row at %s was not in Kafka: it came at offset %d of partition %d, which ended at %d",
					seen.confirmed, commit, r.Offset, r.Partition, end.Offset)
			}
		}
	}
}

// position is where a record says it comes from, without the relay's name.
func position(t *testing.T, r *kgo.Record) decoder.Position {
	t.Helper()
	header := harness.Header(r, "outrider-position")
	_, rest, _ := strings.Cut(header, ":")
	p, err := decoder.ParsePosition(rest)
	if err != nil {
		t.Fatalf("position %q: %v", header, err)
	}
	return p
}

// storedLSN is the relay's checkpoint.
func storedLSN(t *testing.T, s *scene) pglogrepl.LSN {
	t.Helper()
	return queryLSN(t, s.conn, `select lsn from outrider.checkpoint where name = $1`, s.name)
}

// confirmedLSN is what the relay's slot has let go of.
func confirmedLSN(t *testing.T, s *scene) pglogrepl.LSN {
	t.Helper()
	return queryLSN(t, s.conn, `select confirmed_flush_lsn from pg_replication_slots where slot_name = $1`, s.slot())
}

func walEnd(t *testing.T, conn *pgx.Conn) pglogrepl.LSN {
	t.Helper()
	return queryLSN(t, conn, `select pg_current_wal_insert_lsn()`)
}

func queryLSN(t *testing.T, conn *pgx.Conn, sql string, args ...any) pglogrepl.LSN {
	t.Helper()
	var lsn pglogrepl.LSN
	queryRow(t, conn, sql, args, &lsn)
	return lsn
}
