package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

func TestQuietOutboxFreesTheLogOfABusyDatabase(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), "")
	s.relaying(t)
	harness.Exec(t, s.conn, `create table busy (i bigint, pad text)`)
	const written, kept = 16 << 20, 2 << 20 // bytes: an idle advance is stored once 1 MiB has passed
	began := walEnd(t, s.conn)
	for walEnd(t, s.conn)-began < written {
		harness.Exec(t, s.conn, `insert into busy select i, repeat('x', 1000) from generate_series(1, 1000) i`)
	}
	end := walEnd(t, s.conn)
	harness.Eventually(t, patience, "the slot follows", func() error {
		if confirmed := confirmedLSN(t, s); confirmed+kept < end {
			return fmt.Errorf("it is confirmed up to %s, %d bytes short of %s", confirmed, end-confirmed, end)
		}
		return nil
	})
}

func TestIdleDatabaseComesToRest(t *testing.T) {
	t.Parallel()
	// A server of its own: what other tests left to its autovacuum would be seen here.
	pg := harness.NewPostgres(t, harness.PostgresOptions{Settings: map[string]string{"autovacuum": "off"}})
	s := newScene(t, pg, sharedKafka(t), "checkpoint: { interval: 100ms }\n")
	s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	const row = `select (to_jsonb(c) - 'heartbeat_at')::text, heartbeat_at from outrider.checkpoint c where name = $1`
	var rest, now string
	var beat, laterBeat time.Time
	harness.Eventually(t, patience, "the last row is stored", func() error {
		if stored, record := storedLSN(t, s), position(t, harness.ReadAll(t, s.brokers, s.destination)[0]).LSN; stored <= record {
			return fmt.Errorf("the checkpoint is %s, the row at %s", stored, record)
		}
		return nil
	})
	queryRow(t, s.conn, row, []any{s.name}, &rest, &beat)
	began := walEnd(t, s.conn)
	harness.Throughout(t, 8*time.Second, "the checkpoint row rests", func() error {
		queryRow(t, s.conn, row, []any{s.name}, &now, &laterBeat)
		if now != rest {
			return fmt.Errorf("it was %s, and is %s", rest, now)
		}
		return nil
	})
	if !laterBeat.After(beat) {
		t.Errorf("heartbeat_at is still %s", beat)
	}
	// Two heartbeats, and what the server notes of itself every 15 s.
	if grown := walEnd(t, s.conn) - began; grown > 64<<10 {
		t.Errorf("an idle database wrote %d bytes of WAL", grown)
	}
}
