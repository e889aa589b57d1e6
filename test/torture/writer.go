package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// writers is how many write at once.
const writers = 6

// writer commits transactions, one after another, over whatever becomes of the server.
type writer struct {
	stage *stage
	rng   *rand.Rand
	conn  *pgx.Conn // nil: there is none
	term  int       // of conn
}

// what kinds of transactions there are, and how often in a thousand.
var mix = []struct {
	what string
	of   int
}{
	{"plain", 790}, {"rolled back", 60}, {"savepoint", 60}, {"copy", 50}, {"poison", 20}, {"prepared", 15}, {"large rows", 5},
}

// run writes until ctx ends.
func (w *writer) run(ctx context.Context) error {
	defer w.disconnect()
	due := time.Now()
	for ctx.Err() == nil {
		rows, err := w.transact(ctx, w.choose(), w.size())
		if err != nil {
			return err
		}
		due = due.Add(time.Duration(rows) * writers * time.Second / time.Duration(w.stage.plan.Rate))
		if late := time.Since(due); late > 0 {
			due = time.Now() // what could not be written is not made up for
		} else {
			pause(ctx, -late)
		}
	}
	return nil
}

func (w *writer) choose() string {
	n := w.rng.IntN(1000)
	for _, m := range mix {
		if n -= m.of; n < 0 {
			return m.what
		}
	}
	return mix[0].what
}

// size is how many rows a transaction has: few, mostly.
func (w *writer) size() int {
	switch n := w.rng.IntN(10); {
	case n < 6:
		return 1 + w.rng.IntN(3)
	case n < 9:
		return 4 + w.rng.IntN(12)
	}
	return 16 + w.rng.IntN(35)
}

// statementPatience bounds each statement: a server that says nothing is left.
const statementPatience = 20 * time.Second

// transact makes one transaction, and finds out what became of it. An error is about the run.
func (w *writer) transact(ctx context.Context, what string, rows int) (written int, err error) {
	if err := w.connect(ctx); err != nil {
		return 0, nil // it is time to end
	}
	tx := w.stage.journal.begin(what, w.term)
	// Not with ctx: it would be cancelled with the outcome unknown.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementPatience)
	defer cancel()
	asked, err := w.write(work, tx, rows)
	switch {
	case err == nil && tx.what == "rolled back":
		w.stage.journal.close(tx, aborted, "")
	case err == nil && w.stage.journal.close(tx, committed, ""):
	case err == nil: // on a primary that was replaced
		return rows, w.findOut(ctx, tx)
	case !asked: // so Postgres has rolled it back, or will
		w.stage.journal.close(tx, aborted, err.Error())
		w.disconnect()
	default:
		w.stage.journal.close(tx, unknown, err.Error())
		return rows, w.findOut(ctx, tx)
	}
	return rows, nil
}

// write makes the transaction; asked says whether its commit was asked for.
func (w *writer) write(ctx context.Context, tx *transaction, rows int) (asked bool, err error) {
	if _, err := w.conn.Exec(ctx, `begin`); err != nil {
		return false, err
	}
	var xid string
	err = w.conn.QueryRow(ctx, `insert into torture.ledger values ($1) returning pg_current_xact_id()::text`, int64(tx.number)).Scan(&xid)
	if err != nil {
		return false, err
	}
	w.stage.journal.note(func() { tx.xid = xid })
	err = w.insert(ctx, tx, rows)
	if err == nil && tx.what == "savepoint" {
		err = w.insertAndUndo(ctx, tx)
	}
	if err != nil {
		return false, err
	}
	end := []string{`commit`}
	switch tx.what {
	case "rolled back":
		end = []string{`rollback`}
	case "prepared":
		gid := fmt.Sprintf("torture-%d", tx.number)
		w.stage.journal.note(func() { tx.gid = gid })
		end = []string{`prepare transaction '` + gid + `'`, `commit prepared '` + gid + `'`}
	}
	for _, statement := range end {
		if _, err := w.conn.Exec(ctx, statement); err != nil {
			return tx.what != "rolled back", err
		}
	}
	return true, nil
}

// insertAndUndo inserts rows that go with their savepoint, and some more behind them.
func (w *writer) insertAndUndo(ctx context.Context, tx *transaction) error {
	first := uint32(len(tx.rows)) // nobody else adds to them
	if _, err := w.conn.Exec(ctx, `savepoint s`); err != nil {
		return err
	}
	if err := w.insert(ctx, tx, w.size()); err != nil {
		return err
	}
	if _, err := w.conn.Exec(ctx, `rollback to s`); err != nil {
		return err
	}
	w.stage.journal.undo(tx, first)
	return w.insert(ctx, tx, 1+w.rng.IntN(3))
}

// insert bumps the versions of some aggregates, whose rows it locks until the end, and inserts n rows about them.
func (w *writer) insert(ctx context.Context, tx *transaction, n int) error {
	var events []event
	chosen := w.rng.Perm(aggregates)[:1+w.rng.IntN(min(n, 5))]
	slices.Sort(chosen) // or two of us would wait for each other
	for i, aggregate := range chosen {
		rows := n / len(chosen)
		if i == 0 {
			rows += n % len(chosen)
		}
		var version int64
		err := w.conn.QueryRow(ctx, `update torture.aggregate set version = version + $2 where id = $1 returning version`, aggregate, rows).Scan(&version)
		if err != nil {
			return err
		}
		for k := range rows {
			planned := row{aggregate: uint8(aggregate), version: uint32(version) - uint32(rows-k-1), fate: w.fate(tx.what)}
			id := eventID{tx.number, w.stage.journal.plan(tx, planned)}
			events = append(events, w.event(id, &planned))
		}
	}
	return w.send(ctx, tx, events)
}

// fate chooses what becomes of a row.
func (w *writer) fate(what string) fate {
	switch {
	case what == "poison" && w.rng.IntN(3) == 0:
		if w.rng.IntN(tooLargeIn) == 0 {
			return letter
		}
		return stray
	case what == "large rows" && w.rng.IntN(3) == 0:
		return either
	}
	return live
}

// Sizes of rows: those that fit at all times, those that do not fit while a topic takes less, and those that never fit.
const (
	smallRow   = 400
	largeRow   = 40 << 10
	narrowBy   = 32 << 10 // what a topic takes then
	tooLarge   = 1100 << 10
	tooLargeIn = 20 // one of so many poison rows is too large, the others have no topic
)

func (w *writer) event(id eventID, planned *row) event {
	size := 10 + w.rng.IntN(smallRow)
	switch planned.fate {
	case either:
		size = largeRow
	case letter:
		size = tooLarge
	}
	e := newEvent(id, int(planned.aggregate), planned.version, strings.Repeat(string(rune('a'+w.rng.IntN(26))), size))
	if planned.fate == stray {
		e.kind = forbidden
	}
	if planned.fate == live && w.rng.IntN(50) == 0 {
		e.payload = ""
	}
	return e
}

var outboxColumns = []string{"id", "aggregate_type", "aggregate_id", "event_type", "payload", "headers"}

// send inserts rows in their order.
func (w *writer) send(ctx context.Context, tx *transaction, events []event) error {
	values := make([][]any, len(events))
	columns := make([][]*string, len(outboxColumns))
	for i := range events {
		e := &events[i]
		headers := e.headers(w.stage.plan.Seed)
		id, kind := e.id.String(), e.kind
		what := eventType
		row := []*string{&id, &kind, &e.key, &what, nil, &headers}
		if e.payload != "" {
			row[4] = &e.payload
		}
		for c, v := range row {
			columns[c] = append(columns[c], v)
			if v == nil {
				values[i] = append(values[i], nil)
			} else {
				values[i] = append(values[i], *v)
			}
		}
	}
	if tx.what == "copy" {
		_, err := w.conn.CopyFrom(ctx, pgx.Identifier{"public", "outbox"}, outboxColumns, pgx.CopyFromRows(values))
		return err
	}
	_, err := w.conn.Exec(ctx, `insert into public.outbox (id, aggregate_type, aggregate_id, event_type, payload, headers)
		select i::uuid, t, a, e, p::jsonb, h::jsonb from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) with ordinality as r (i, t, a, e, p, h, n) order by n`,
		columns[0], columns[1], columns[2], columns[3], columns[4], columns[5])
	return err
}
