package cdc

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestFirstStartMakesPublicationAndSlotThatStream(t *testing.T) {
	pg := database(t, `create table "Outbox" (id int, payload jsonb); insert into "Outbox" values (1, '{}'), (2, '{}')`)
	pg.Tables = []string{"public.Outbox"}
	conn := control(t, pg)
	for range 2 { // another relay may have been faster
		if err := createPublication(t.Context(), conn, pg); err != nil {
			t.Fatal(err)
		}
	}
	repl := replication(t, pg)
	version := serverVersion(t, conn)
	pg.Failover = true
	at, err := createSlot(t.Context(), repl, conn, pg, version, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := preflight(t.Context(), conn, pg)
	if err != nil {
		t.Fatal(err)
	}
	if f.slot == nil || f.slot.Confirmed != at || at == 0 || f.publication == nil || f.publication.Update || !f.publication.ViaRoot {
		t.Errorf("slot %+v made at %s, publication %+v", f.slot, at, f.publication)
	}
	if f.slot.Failover != (version >= failoverVersion) {
		t.Errorf("failover is %v on version %d", f.slot.Failover, version)
	}
	if n, err := rowsBefore(t.Context(), conn, "public.Outbox"); n != 2 || err != nil {
		t.Errorf("%d rows before, %v", n, err)
	}
	if err := repl.start(t.Context(), pg.Slot, 0, pg.pluginArgs()); err != nil {
		t.Fatal(err)
	}
	run(t, conn, `insert into "Outbox" values (3, '{"a":1}')`)
	if row := firstRow(t, repl); !strings.Contains(row, `{"a": 1}`) {
		t.Errorf("row %q", row)
	}
}

func TestPublicationWithoutTablesStreamsMessages(t *testing.T) {
	pg := database(t, "select 1")
	pg.Prefixes = []string{"orders"}
	conn := control(t, pg)
	if err := createPublication(t.Context(), conn, pg); err != nil {
		t.Fatal(err)
	}
	repl := replication(t, pg)
	if _, err := createSlot(t.Context(), repl, conn, pg, serverVersion(t, conn), nil); err != nil {
		t.Fatal(err)
	}
	f, err := preflight(t.Context(), conn, pg)
	if err != nil || len(f.warnings) > 0 || len(f.publication.Tables) > 0 {
		t.Fatalf("%v; warnings %v, publication %+v", err, f.warnings, f.publication)
	}
	if err := repl.start(t.Context(), pg.Slot, 0, pg.pluginArgs()); err != nil {
		t.Fatal(err)
	}
	run(t, conn, `select pg_logical_emit_message(true, 'orders', '{"payload": 1}')`)
	if m := firstMessage(t, repl, 'M'); !strings.HasSuffix(m, `{"payload": 1}`) {
		t.Errorf("message %q", m)
	}
	pg.Prefixes = nil
	if _, err := preflight(t.Context(), conn, pg); err == nil || !strings.Contains(err.Error(), "has no tables") {
		t.Errorf("without prefixes: %v", err)
	}
}

func TestPublicationThatTheRoleMayNotCreateNamesTheCommand(t *testing.T) {
	pg := database(t, `create table outbox (id int)`)
	pg.Tables = []string{"public.outbox"}
	conn := control(t, pg)
	run(t, conn, "set role pg_monitor")
	var refused findings
	err := createPublication(t.Context(), conn, pg)
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), `create publication "outrider" for table "public"."outbox" with (publish = 'insert'`) {
		t.Error(err)
	}
	pg.Tables = nil
	if err := createPublication(t.Context(), conn, pg); !errors.As(err, &refused) || !strings.Contains(err.Error(), "set outbox.tables") {
		t.Errorf("for no tables: %v", err)
	}
}

// waiting begins the creation of a slot that an open transaction holds up, and returns when the server waits for it.
func waiting(t *testing.T, ctx context.Context, pg *Postgres) (release func(), result <-chan error) {
	t.Helper()
	writer, err := control(t, pg).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Exec(t.Context(), "insert into outbox (payload) values ('{}')"); err != nil {
		t.Fatal(err)
	}
	told, done := make(chan string, 10), make(chan error, 1)
	repl, conn := replication(t, pg), control(t, pg)
	go func() {
		_, err := createSlot(ctx, repl, conn, pg, minVersion, func(who string) { told <- who })
		done <- err
	}()
	select {
	case who := <-told:
		if !strings.Contains(who, "idle in transaction") || !strings.Contains(who, pg.applicationName()) {
			t.Errorf("waits for %q", who)
		}
	case err := <-done:
		t.Fatalf("did not wait: %v", err)
	}
	return func() { _ = writer.Commit(context.Background()) }, done
}

func TestSlotThatWaitsForATransactionSaysForWhich(t *testing.T) {
	pg := database(t, outboxSQL)
	release, done := waiting(t, t.Context(), pg)
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A server that is left alone with CREATE_REPLICATION_SLOT finishes it, and keeps the WAL for a slot that nobody reads.
func TestStopWhileASlotIsMadeLeavesNoSlot(t *testing.T) {
	pg := database(t, outboxSQL)
	ctx, cancel := context.WithCancel(t.Context())
	release, done := waiting(t, ctx, pg)
	cancel()
	var refused *pgconn.PgError
	if err := <-done; !errors.As(err, &refused) || refused.Code != "57014" {
		t.Errorf("%v, want that the server has given up: after an exit nobody would cancel it", err)
	}
	release()
	if s, err := readSlot(t.Context(), control(t, pg), pg.Slot); s != nil || err != nil {
		t.Errorf("left behind: %+v, %v", s, err)
	}
}

func TestBusySlotNamesItsReader(t *testing.T) {
	pg := database(t, outboxSQL)
	conn := control(t, pg)
	run(t, conn, "select pg_create_logical_replication_slot($1, 'pgoutput')", pg.Slot)
	owner, second := replication(t, pg), replication(t, pg)
	if err := owner.start(t.Context(), pg.Slot, 0, pg.pluginArgs()); err != nil {
		t.Fatal(err)
	}
	err := second.start(t.Context(), pg.Slot, 0, pg.pluginArgs())
	var refused *pgconn.PgError
	if classifyPg(err) != pgSlotBusy || !errors.As(err, &refused) || busyPID(refused) != int(owner.pid) {
		t.Errorf("%v, want a slot that is busy with pid %d", err, owner.pid)
	}
	s, err := readSlot(t.Context(), conn, pg.Slot)
	if err != nil || !s.Active || s.ActivePID != owner.pid {
		t.Fatalf("%+v %v", s, err)
	}
	if who, err := s.holder(t.Context(), conn); err != nil || !strings.Contains(who, pg.applicationName()) {
		t.Errorf("held by %q, %v", who, err)
	}
	if err := checkAsync(t.Context(), conn, owner.pid); err != nil {
		t.Error(err)
	}
}

func TestMissingSlotAndPublicationAreTold(t *testing.T) {
	pg := database(t, outboxSQL)
	if err := replication(t, pg).start(t.Context(), pg.Slot, 0, pg.pluginArgs()); classifyPg(err) != pgSlotMissing {
		t.Errorf("no slot: %v is class %d", err, classifyPg(err))
	}
	conn, repl := control(t, pg), replication(t, pg)
	run(t, conn, "select pg_create_logical_replication_slot($1, 'pgoutput')", pg.Slot)
	run(t, conn, "drop publication outrider")
	run(t, conn, "insert into outbox (payload) values ('{}')")
	if err := repl.start(t.Context(), pg.Slot, 0, pg.pluginArgs()); err != nil {
		t.Fatal(err)
	}
	for {
		if err := repl.fill(); err != nil {
			t.Fatal(err)
		}
		for {
			typ, body, ok := repl.next()
			if !ok {
				break
			}
			// Before PostgreSQL 18 an error, from then on a warning.
			if typ == frameError || typ == frameNotice {
				if e := parseServerError(body); classifyPg(e) != pgPublicationMissing {
					t.Errorf("%q %v (%s) is class %d", typ, e, e.Routine, classifyPg(e))
				}
				return
			}
		}
	}
}

func TestSlotWhoseWALIsGoneIsLost(t *testing.T) {
	pg := database(t, outboxSQL)
	conn, repl := control(t, pg), replication(t, pg)
	run(t, conn, "select pg_create_logical_replication_slot($1, 'pgoutput')", pg.Slot)
	run(t, conn, "alter system set max_slot_wal_keep_size = '1MB'")
	run(t, conn, "select pg_reload_conf()")
	t.Cleanup(func() {
		for _, sql := range []string{"alter system reset max_slot_wal_keep_size", "select pg_reload_conf()"} {
			if _, err := conn.Exec(context.Background(), sql); err != nil {
				t.Error(err)
			}
		}
	})
	var s *slotFacts
	for range 100 { // checkpoints, each of which may remove WAL
		run(t, conn, "insert into outbox (payload) values ('{}')")
		run(t, conn, "select pg_switch_wal()")
		run(t, conn, "checkpoint")
		var err error
		if s, err = readSlot(t.Context(), conn, pg.Slot); err != nil {
			t.Fatal(err)
		}
		if s.lost() != "" {
			break
		}
	}
	if s.lost() == "" || s.Confirmed == 0 {
		t.Errorf("the slot is not lost: %+v", s)
	}
	if err := repl.start(t.Context(), pg.Slot, 0, pg.pluginArgs()); classifyPg(err) != pgSlotLost {
		t.Errorf("%v is class %d", err, classifyPg(err))
	}
}

func TestCancelEndsAStartThatTheServerDoesNotAnswer(t *testing.T) {
	c, _ := wired(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.begin(ctx, "o", 0, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
