package cdc

import (
	"context"
	"testing"
	"time"
)

// What the slot holds back is the server's to bear, whoever reads it.
func TestStandbyShowsTheSlotAsItIs(t *testing.T) {
	pg := database(t, stageTable+`; create publication outrider for table outbox with (publish = 'insert')`)
	conn := control(t, pg)
	run(t, conn, `select pg_create_logical_replication_slot($1, 'pgoutput', true)`, pg.Slot) // a temporary one is active in its own session
	relay := stageRelay(t, pg, func(*Ledger) Sink { return &stageSink{} })
	relay.cfg.Rehearse = func(context.Context) error { return nil }
	inBackground(t, relay)
	before := await(t, relay, Standby).Postgres
	if !before.SlotActive {
		t.Errorf("%+v", before)
	}
	const written = 1 << 20
	run(t, conn, `select pg_logical_emit_message(false, 'x', repeat(' ', $1))`, written)
	for began := time.Now(); relay.Status().Postgres.RetainedBytes < before.RetainedBytes+written; {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%d bytes are held back, it says, as before %d more", relay.Status().Postgres.RetainedBytes, written)
		}
		<-time.After(5 * time.Millisecond)
	}
}
