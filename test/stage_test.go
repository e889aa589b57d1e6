package test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// stage is what one test has for itself on servers that it shares: a database with an outbox, and names that no other
// test uses.
type stage struct {
	url  string
	conn *pgx.Conn
	name string // of the relay; also the first part of its topics
}

// newStage makes a database with an outbox table on pg. Its slot is dropped with the test, for a server has only so many.
func newStage(t *testing.T, pg *harness.Postgres) *stage {
	t.Helper()
	s := &stage{url: pg.NewDatabase(t), name: uniqueName(t)}
	s.conn = harness.Connect(t, s.url)
	harness.CreateOutbox(t, s.conn)
	t.Cleanup(func() { s.dropSlot(t) })
	return s
}

func (s *stage) dropSlot(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		t.Logf("drop the slot: %v", err) // the test has stopped its server
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = $1 and active`, s.slot())
	if err == nil {
		_, err = conn.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1`, s.slot())
	}
	if err != nil {
		t.Errorf("drop the slot: %v", err)
	}
}

func (s *stage) slot() string { return "outrider_" + s.name }

// aggregate is an aggregate type of this stage alone, and topic the topic of its rows.
func (s *stage) aggregate(kind string) string { return s.name + "." + kind }
func (s *stage) topic(kind string) string     { return "outbox.event." + s.aggregate(kind) }

// start starts a relay; config is YAML, as in a file of settings.
func (s *stage) start(t *testing.T, brokers []string, config string) *harness.Relay {
	t.Helper()
	return harness.StartRelay(t, harness.RelayOptions{Name: s.name, Postgres: s.url, Kafka: brokers, Config: config})
}

// startRelaying starts a relay and returns when it relays.
func (s *stage) startRelaying(t *testing.T, brokers []string, config string) *harness.Relay {
	t.Helper()
	r := s.start(t, brokers, config)
	r.AwaitState(t, cdc.Relaying, 30*time.Second)
	return r
}

// walsender is the process that streams from the stage's slot; 0: none.
func (s *stage) walsender(t *testing.T) (pid int) {
	t.Helper()
	err := s.conn.QueryRow(t.Context(), `select coalesce(active_pid, 0) from pg_replication_slots where slot_name = $1`, s.slot()).Scan(&pid)
	if err != nil {
		t.Fatalf("look at slot %s: %v", s.slot(), err)
	}
	return pid
}

// commit runs f in a transaction and gives an LSN between what f wrote and its commit: a slot that has let go of more
// than that has let go of f's rows.
func (s *stage) commit(t *testing.T, f func()) (lsn string) {
	t.Helper()
	harness.Exec(t, s.conn, `begin`)
	f()
	if err := s.conn.QueryRow(t.Context(), `select pg_current_wal_insert_lsn()::text`).Scan(&lsn); err != nil {
		t.Fatal(err)
	}
	harness.Exec(t, s.conn, `commit`)
	return lsn
}

// confirmedBeyond says whether the slot has let go of WAL from lsn on.
func (s *stage) confirmedBeyond(t *testing.T, lsn string) bool {
	t.Helper()
	var beyond bool
	err := s.conn.QueryRow(t.Context(), `select confirmed_flush_lsn > $2::pg_lsn from pg_replication_slots where slot_name = $1`, s.slot(), lsn).Scan(&beyond)
	if err != nil {
		t.Fatalf("look at slot %s: %v", s.slot(), err)
	}
	return beyond
}

// repeatsOf says whether records may be repeated in Kafka after what the relay has been through: only a session that
// ended may send anything again, and never with exactly-once.
func repeatsOf(st cdc.Status) harness.Repeats {
	return harness.Repeats(st.Delivery == "at-least-once" && len(st.Sessions) > 0)
}

// awaitDegraded waits until the relay is degraded for a reason that holds text.
func awaitDegraded(t *testing.T, r *harness.Relay, text string, patience time.Duration) cdc.Status {
	t.Helper()
	var st cdc.Status
	harness.Eventually(t, patience, fmt.Sprintf("degraded by %q", text), func() (err error) {
		if st, err = r.Status(); err == nil && (st.State != cdc.Degraded || !strings.Contains(st.Reason, text)) {
			err = fmt.Errorf("it is %s (%s)", st.State, st.Reason)
		}
		return err
	})
	return st
}
