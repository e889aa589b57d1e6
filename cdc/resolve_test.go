package cdc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/migrations"
)

func TestDecisionThatNothingCouldBeDoneWithIsRefused(t *testing.T) {
	pg := database(t, ``)
	conn := control(t, pg)
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	run(t, conn, `insert into outrider.checkpoint (name, format, generation, instance, heartbeat_at, system_id, timeline, slot, lsn, delivery, updated_at)
		values ('orders', 1, 1, 'i', now(), '7', 1, $1, '0/1', 'exactly-once', now())`, pg.Slot)
	run(t, conn, `select pg_create_logical_replication_slot($1, 'pgoutput')`, pg.Slot)
	var confirmed, end string
	if err := conn.QueryRow(t.Context(), `select confirmed_flush_lsn::text, pg_current_wal_insert_lsn()::text from pg_replication_slots where slot_name = $1`, pg.Slot).Scan(&confirmed, &end); err != nil {
		t.Fatal(err)
	}
	const poison = `{"id": "1", "case": "poison", "options": ["dead-letter", "skip"], "positions": ["1:0/A:0"]}`
	gap := `{"id": "1", "case": "gap", "options": ["restart-at"], "lsn": "` + end + `"}`
	// Its own topic does not take the dead letter that somebody has decided on.
	const letter = `{"id": "2", "case": "poison", "options": ["skip"], "positions": ["1:0/A:0"], "events": [{"verdict": "1", "action": "dead-letter", "position": "1:0/A:0", "by": "you", "at": "2026-01-02T03:04:05Z"}]}`
	const lost = `{"id": "1", "case": "gap", "options": ["accept-loss"]}`
	const decided = `{"verdict": "1", "action": "accept-loss", "by": "you", "at": "2026-01-02T03:04:05Z"}`
	restart := func(at string) checkpoint.Decision { return checkpoint.Decision{Action: checkpoint.RestartAt, LSN: at} }
	skip := func(at string) checkpoint.Decision {
		return checkpoint.Decision{Action: checkpoint.SkipEvent, Position: at}
	}
	accept := func(a checkpoint.Action) checkpoint.Decision { return checkpoint.Decision{Action: a} }
	for _, c := range []struct {
		name, verdict, decision string
		now                     string // done to the slot
		d                       checkpoint.Decision
		replace                 bool
		says, instead           string // empty: it is taken down
	}{
		{name: "no verdict", d: accept(checkpoint.AcceptLoss), says: "is not blocked", instead: "outrider status --name orders"},
		{name: "an event that nothing was decided about", d: skip("1:0/A:0"), says: "nothing was decided about the event at 1:0/A:0", instead: "outrider status --name orders"},
		{name: "another question", verdict: poison, d: accept(checkpoint.AcceptLoss), says: `--accept-loss does not answer the verdict "poison"`, instead: "outrider resolve --name orders --dead-letter 1:0/A:0, or outrider resolve --name orders --skip 1:0/A:0"},
		{name: "another event", verdict: poison, d: skip("1:0/B:0"), says: "is at 1:0/A:0, not at 1:0/B:0", instead: "outrider resolve --name orders --skip 1:0/A:0"},
		{name: "the event", verdict: poison, d: skip("1:0/A:0")},
		{name: "any event, of a version that named none", verdict: strings.Replace(poison, `"positions"`, `"_"`, 1), d: skip("1:0/B:0")},
		{name: "below the slot", verdict: gap, d: restart("0/1"), says: "0/1 does not lie between", instead: "outrider resolve --name orders --restart-at " + end},
		{name: "beyond the end", verdict: gap, d: restart("FF/0"), says: "FF/0 does not lie between", instead: "outrider resolve --name orders --restart-at " + end},
		{name: "where the slot stands", verdict: gap, d: restart(confirmed)},
		{name: "where it is advised", verdict: gap, d: restart(end)},
		{name: "the event, whose dead letter was refused", verdict: letter, d: skip("1:0/A:0")},
		{name: "another event than that", verdict: letter, d: skip("1:0/B:0"), says: "is at 1:0/A:0, not at 1:0/B:0", instead: "--skip 1:0/A:0"},
		{name: "a gap", verdict: lost, d: accept(checkpoint.AcceptLoss)},
		{name: "the same again", verdict: lost, decision: decided, d: accept(checkpoint.AcceptLoss)},
		{name: "otherwise than somebody else", verdict: poison, decision: strings.Replace(decided, "accept-loss", "dead-letter", 1), d: skip("1:0/A:0"), says: "was decided by you at 2026-01-02T03:04:05Z", instead: "outrider resolve --name orders --skip 1:0/A:0 --replace"},
		{name: "otherwise on purpose", verdict: poison, decision: strings.Replace(decided, "accept-loss", "dead-letter", 1), d: skip("1:0/A:0"), replace: true},
		{name: "in a slot that is gone", verdict: gap, now: dropFree, d: restart(end), says: "is gone by now", instead: "outrider run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.now != "" {
				run(t, conn, c.now, pg.Slot)
			}
			run(t, conn, `update outrider.checkpoint set verdict = nullif($1, '')::jsonb, decision = nullif($2, '')::jsonb`, c.verdict, c.decision)
			row := rowOf(t, pg)
			before := row.Standing()
			d := c.d
			d.By, d.At = "me", time.Now()
			_, err := Resolve(t.Context(), conn, &Config{Name: "orders", Postgres: *pg}, &row, &d, c.replace)
			var refused *Refused
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (!errors.As(err, &refused) || !strings.Contains(refused.Reason, c.says) || !strings.Contains(refused.Instead, c.instead)):
				t.Errorf("%v", err)
			}
			now := rowOf(t, pg)
			if changed := !now.Standing().Equal(before); changed != (c.says == "" && c.name != "the same again") {
				t.Errorf("the row has changed: %v (%s)", changed, now.Decision)
			}
			if _, taken, err := now.Pending(); err != nil || c.says == "" && (taken == nil || taken.Action != d.Action) {
				t.Errorf("of the verdict that stands %+v is decided: %v", taken, err)
			}
		})
	}
}
