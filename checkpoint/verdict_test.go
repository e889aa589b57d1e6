package checkpoint_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/test/harness"
)

// judge writes a verdict in place of what stands, and gives the row as a person reads it then.
func (db *database) judge(t *testing.T, store *checkpoint.Store, v checkpoint.Verdict) checkpoint.Row {
	t.Helper()
	row := db.read(t)
	if _, err := checkpoint.Judge(t.Context(), db.connect(t), "orders", store.Generation(), row.Standing(), v); err != nil {
		t.Fatal(err)
	}
	return db.read(t)
}

func TestNewVerdictRemovesTheDecisionOnTheOld(t *testing.T) {
	db := newDatabase(t)
	store, _, _ := db.take(t, "one")
	row := db.judge(t, store, checkpoint.Verdict{ID: "1", Case: "gap"})
	must(t, checkpoint.Decide(t.Context(), db.connect(t), &row, checkpoint.Decision{Verdict: "1", Action: checkpoint.AcceptLoss}))
	if _, d, err := row.Pending(); err != nil || d == nil || d.Action != checkpoint.AcceptLoss {
		t.Errorf("decision %+v, %v", d, err)
	}
	row = db.judge(t, store, checkpoint.Verdict{ID: "2", Case: "poison"})
	if v, d, err := row.Pending(); err != nil || v == nil || v.ID != "2" || d != nil {
		t.Errorf("verdict %+v, decision %+v, %v", v, d, err)
	}
	if _, err := store.Settle(t.Context(), row.Standing(), nil); err != nil {
		t.Fatal(err)
	}
	if row := db.read(t); row.Verdict != nil {
		t.Errorf("verdict %s, want none", row.Verdict)
	}
}

// Between the look at a row and the write somebody else may have decided, or the relay judged anew.
func TestNobodysWordIsOverwrittenUnseen(t *testing.T) {
	db := newDatabase(t)
	store, _, _ := db.take(t, "one")
	mine := db.judge(t, store, checkpoint.Verdict{ID: "1", Case: "gap"})
	yours := mine
	conn := db.connect(t)
	must(t, checkpoint.Decide(t.Context(), conn, &yours, checkpoint.Decision{Verdict: "1", Action: checkpoint.AcceptLoss, By: "you"}))
	decided := db.read(t)

	for what, write := range map[string]func() error{
		"another decision": func() error {
			return checkpoint.Decide(t.Context(), conn, &mine, checkpoint.Decision{Verdict: "1", Action: checkpoint.AcceptRepeats, By: "me"})
		},
		"a verdict": func() error {
			_, err := checkpoint.Judge(t.Context(), conn, "orders", store.Generation(), mine.Standing(), checkpoint.Verdict{ID: "2", Case: "poison"})
			return err
		},
		"a settlement": func() error {
			_, err := store.Settle(t.Context(), mine.Standing(), nil)
			return err
		},
	} {
		if err := write(); !errors.Is(err, checkpoint.ErrDecided) {
			t.Errorf("%s: %v, want ErrDecided", what, err)
		}
	}
	if row := db.read(t); !row.Standing().Equal(decided.Standing()) || !row.Standing().Equal(yours.Standing()) {
		t.Errorf("the row holds %s, %s", row.Verdict, row.Decision)
	}
	if err := checkpoint.Decide(t.Context(), conn, &decided, checkpoint.Decision{Verdict: "0"}); !errors.Is(err, checkpoint.ErrDecided) {
		t.Errorf("about another verdict: %v", err)
	}
}

// Such a decision was taken, and its verdict is settled; it waits until the event has been passed.
func TestDecisionAboutAnEventIsReplacedAsLongAsItStands(t *testing.T) {
	db := newDatabase(t)
	store, _, _ := db.take(t, "one")
	first := checkpoint.Decision{Verdict: "1", Action: checkpoint.DeadLetterEvent, Position: "1:0/1:0", By: "you", At: time.Unix(0, 0).UTC()}
	other := checkpoint.Decision{Verdict: "1", Action: checkpoint.SkipEvent, Position: "1:0/1:1"}
	stands, err := store.Settle(t.Context(), checkpoint.Standing{}, []checkpoint.Decision{first, other})
	must(t, err)
	row := db.read(t)
	if !row.Standing().Equal(stands) {
		t.Errorf("%s stands, not %s", row.Verdict, stands.Verdict)
	}
	second := checkpoint.Decision{Verdict: "1", Action: checkpoint.SkipEvent, Position: "1:0/1:0", By: "me"}
	must(t, checkpoint.Decide(t.Context(), db.connect(t), &row, second))
	row = db.read(t)
	events, err := row.Events()
	if v, _, _ := row.Pending(); err != nil || v != nil || len(events) != 2 || events[0] != second || events[1] != other {
		t.Errorf("verdict %+v, decided is %+v, %v", v, events, err)
	}
	if _, err := store.Settle(t.Context(), stands, nil); !errors.Is(err, checkpoint.ErrDecided) {
		t.Errorf("the session that knows the first alone settles it: %v", err)
	}
}

// The row has outlived upgrades and downgrades: a verdict is read by programs older and newer than the one that wrote it.
func TestVerdictIsReadByOlderAndNewerVersions(t *testing.T) {
	db := newDatabase(t)
	store, _, _ := db.take(t, "older")
	harness.Exec(t, db.connect(t), `update outrider.checkpoint set
		verdict = '{"id": "7-1", "case": "poison", "reason": "r", "advice": "a", "options": ["dead-letter", "skip"], "instance": "i", "at": "2026-01-02T03:04:05Z"}',
		decision = '{"verdict": "7-1", "action": "skip", "position": "1:0/1:0", "by": "b", "at": "2026-01-02T03:04:06Z"}'`)
	row := db.read(t)
	v, d, err := row.Pending()
	if err != nil || v.Case != "poison" || len(v.Options) != 2 || v.Positions != nil || d == nil || d.Position != "1:0/1:0" {
		t.Errorf("%+v, %+v, %v", v, d, err)
	}
	if _, err := store.Settle(t.Context(), row.Standing(), []checkpoint.Decision{*d}); err != nil {
		t.Errorf("settle what an older version wrote: %v", err)
	}

	row = db.judge(t, store, checkpoint.Verdict{ID: "8-1", Case: "diverged", Options: []checkpoint.Action{checkpoint.AcceptLoss}, Positions: []string{"1:0/1:0"}, More: 3, LSN: "0/1"})
	var older struct {
		ID, Case string
		Options  []string
	}
	if err := json.Unmarshal(row.Verdict, &older); err != nil || older.ID != "8-1" || older.Case != "diverged" || len(older.Options) != 1 {
		t.Errorf("an older version reads %+v, %v", older, err)
	}
}

// As a program of an older version, or one without the right, has left the table.
func TestRowsAreKeptWhereTheTableHasAPlaceForIt(t *testing.T) {
	db := newDatabase(t)
	store, _, _ := db.take(t, "one")
	conn := db.connect(t)
	read := func() (*checkpoint.Kept, json.RawMessage, bool) {
		t.Helper()
		kept, stands, possible, err := checkpoint.ReadKept(t.Context(), conn, "orders")
		must(t, err)
		return kept, stands, possible
	}
	if kept, _, possible := read(); kept != nil || !possible {
		t.Errorf("at first %+v, possible %v", kept, possible)
	}
	keep := func() {
		t.Helper()
		must(t, checkpoint.Keep(t.Context(), conn, "orders", store.Generation(), "why", "p"))
	}
	var xid int64
	must(t, conn.QueryRow(t.Context(), `select pg_current_xact_id()::text::bigint`).Scan(&xid))
	before := time.Now().Add(-time.Minute)
	keep()
	kept, stands, _ := read()
	if kept == nil || kept.XID <= xid || kept.At.Before(before) || kept.Why != "why" || kept.Published != "p" {
		t.Fatalf("%+v is kept", kept)
	}
	keep()
	if err := checkpoint.LetGo(t.Context(), conn, "orders", stands, "by", "q"); !errors.Is(err, checkpoint.ErrDecided) {
		t.Errorf("let go of what has changed: %v", err)
	}
	_, stands, _ = read()
	must(t, checkpoint.LetGo(t.Context(), conn, "orders", stands, "by", "q"))
	if kept, _, _ := read(); kept == nil || kept.XID != 0 || !kept.At.IsZero() || kept.Published != "q" {
		t.Errorf("%+v is kept after all was let go", kept)
	}
	harness.Exec(t, conn, `alter table outrider.checkpoint drop column kept`)
	keep()
	if kept, _, possible := read(); kept != nil || possible {
		t.Errorf("without the column %+v, possible %v", kept, possible)
	}
	if row := db.read(t); row.Generation != store.Generation() {
		t.Errorf("generation %d", row.Generation)
	}
}
