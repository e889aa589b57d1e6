package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// SQL of the application: its change, and the event beside it.
const (
	placeOrder   = `insert into orders (status, total) values ('placed', $1) returning id, total::text`
	advanceOrder = `update orders set status = $2 where id = $1 returning id, total::text`
	publishEvent = `select outrider.publish('` + aggregateType + `', $1, $2, $3, '{"source": "shop"}')::text`
)

// rollbackEvery is how many transactions there are for each that the application rolls back.
const rollbackEvery = 5

// order is an order that has not come to its end.
type order struct {
	id   int64
	next int // index into steps
}

// step is a stage in an order's life.
type step struct{ status, event string }

var steps = []step{{"placed", "OrderPlaced"}, {"paid", "OrderPaid"}, {"shipped", "OrderShipped"}}

// writer is the application.
type writer struct {
	conn   *pgx.Conn
	tally  *tally
	screen *screen
	open   []order
	n      int // transactions so far
}

// write commits orders at rate transactions a second until ctx ends.
func write(ctx context.Context, url string, rate float64, t *tally, s *screen) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("application: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	w := &writer{conn: conn, tally: t, screen: s}
	tick := time.NewTicker(max(time.Duration(float64(time.Second)/rate), time.Microsecond))
	defer tick.Stop()
	for {
		// A transaction that has begun is finished, so that its outcome is known.
		if err := w.transact(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("application: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// transact changes an order and publishes the event in one transaction, and now and then thinks better of it.
func (w *writer) transact(ctx context.Context) error {
	w.n++
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return err
	}
	i, o := w.choose()
	var total string
	if o.next == 0 {
		err = tx.QueryRow(ctx, placeOrder, strconv.Itoa(5+rand.IntN(95))+".90").Scan(&o.id, &total)
	} else {
		err = tx.QueryRow(ctx, advanceOrder, o.id, steps[o.next].status).Scan(&o.id, &total)
	}
	if err != nil {
		return err
	}
	now := steps[o.next]
	payload, err := json.Marshal(map[string]any{"order": o.id, "status": now.status, "total": json.Number(total)})
	if err != nil {
		return err
	}
	var id string
	if err := tx.QueryRow(ctx, publishEvent, strconv.FormatInt(o.id, 10), now.event, string(payload)).Scan(&id); err != nil {
		return err
	}
	if w.n%rollbackEvery == 0 {
		w.tally.rolledBack(id)
		w.screen.bad("rollback", "order %d %s, event %s: neither has happened, there will be no record", o.id, now.status, now.event)
		return tx.Rollback(ctx)
	}
	w.tally.committing(id, time.Now())
	w.screen.good("commit", "order %d %s, event %s: one transaction, two tables", o.id, now.status, now.event)
	if err := tx.Commit(ctx); err != nil {
		return errors.Join(err, w.conn.Close(ctx))
	}
	w.tally.committed(id)
	o.next++
	w.keep(i, o)
	return nil
}

// choose takes an open order, or a new one; i is its index, or -1.
func (w *writer) choose() (i int, o order) {
	if len(w.open) == 0 || rand.IntN(len(steps)) == 0 {
		return -1, order{}
	}
	i = rand.IntN(len(w.open))
	return i, w.open[i]
}

// keep remembers o, unless it has come to its end.
func (w *writer) keep(i int, o order) {
	switch {
	case i < 0:
		w.open = append(w.open, o)
	case o.next < len(steps):
		w.open[i] = o
	default:
		w.open[i] = w.open[len(w.open)-1]
		w.open = w.open[:len(w.open)-1]
	}
}
