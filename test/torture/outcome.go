package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// connect returns when there is a connection to the present primary, or an error when it is away.
func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil && !w.conn.IsClosed() && w.term == w.stage.database.terms() {
		return nil
	}
	w.disconnect()
	for ctx.Err() == nil {
		term := w.stage.database.terms()
		dial, cancel := context.WithTimeout(ctx, 5*time.Second)
		conn, err := pgx.Connect(dial, w.stage.database.url())
		cancel()
		if err == nil {
			w.conn, w.term = conn, term
			return nil
		}
		pause(ctx, 50*time.Millisecond)
	}
	return ctx.Err()
}

func (w *writer) disconnect() {
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = w.conn.Close(ctx)
		cancel()
		w.conn = nil
	}
}

// findOut asks what became of a transaction until somebody knows. It goes on after the end of ctx: nothing may stay unknown.
func (w *writer) findOut(ctx context.Context, tx *transaction) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	var last error
	for ctx.Err() == nil {
		w.disconnect()
		last = w.connect(ctx)
		if last == nil {
			last = w.settle(ctx, tx)
		}
		if last == nil {
			return nil
		}
		if failed := (*stageError)(nil); errors.As(last, &failed) {
			return last
		}
		pause(ctx, 50*time.Millisecond)
	}
	return &stageError{fmt.Errorf("the outcome of transaction %d: %w", tx.number, last)}
}

var errInProgress = errors.New("the transaction is still in progress")

// settle asks the present primary what became of a transaction: by its xid where it is the one that began it, and by the
// ledger, which has a row of each transaction. A prepared one is committed now.
func (w *writer) settle(ctx context.Context, tx *transaction) error {
	if tx.gid != "" {
		var waits bool
		if err := w.conn.QueryRow(ctx, `select exists (select from pg_prepared_xacts where gid = $1)`, tx.gid).Scan(&waits); err != nil {
			return err
		}
		if waits {
			if _, err := w.conn.Exec(ctx, `commit prepared '`+tx.gid+`'`); err != nil {
				return err
			}
		}
	}
	status := "of another primary"
	if tx.term == w.term {
		if err := w.conn.QueryRow(ctx, `select coalesce(pg_xact_status($1::text::xid8), 'gone')`, tx.xid).Scan(&status); err != nil {
			return err
		}
	}
	if status == "in progress" {
		return errInProgress
	}
	var there bool
	if err := w.conn.QueryRow(ctx, `select exists (select from torture.ledger where number = $1)`, int64(tx.number)).Scan(&there); err != nil {
		return err
	}
	// The ledger is right where it knows of none: after a crash, an xid that no flushed WAL bears is given out again, and what
	// became of that one says nothing of this.
	if there && status == "aborted" {
		return &stageError{fmt.Errorf("transaction %d is %s, says Postgres; the ledger has it: %t", tx.number, status, there)}
	}
	o := aborted
	if there {
		o = committed
	}
	if !w.stage.journal.close(tx, o, "settled: "+status) {
		// It has survived the promotion that its primary was replaced by; this one's term is what counts from now on.
		w.stage.journal.note(func() { tx.term = w.term })
		return errInProgress
	}
	return nil
}
