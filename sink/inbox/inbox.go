// Package inbox keeps a consumer from doing its work twice: it enters the id of each event in the consumer's own Postgres,
// in the transaction that does the work, so that both are committed or neither is.
//
//	tx, err := db.Begin(ctx)
//	if err != nil {
//		return err
//	}
//	defer tx.Rollback(ctx)
//	first, err := inbox.Enter(ctx, tx, "billing", id)
//	if err != nil || !first {
//		return err // not first: the work is done already, the record's offset may be committed
//	}
//	if err := work(ctx, tx, event); err != nil {
//		return err
//	}
//	return tx.Commit(ctx) // and then, not before, the record's offset
//
// The id is the record's first header "id", which the outbox row had. A row may bring headers of its own, and one that
// passes on those of an event before it brings another "id": that one comes later. Where rows are numbered (an id that is
// a serial), rows of two tables have one id: for consumers of both, the header "outrider-position" tells events apart.
//
// Whatever delivers an event again then does no harm: a consumer that died before it committed its offsets, a partition
// that moved in the middle, offsets that were reset, a relay that promises at-least-once. What leaves the database, a mail or a
// call, is work of another kind: enter it into an outbox, in the same transaction.
//
// Schema is the table. Sweep removes what is old. Other languages do the same in SQL: docs/consumer.md.
package inbox

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed schema.sql
var schemaSQL string

// Schema is the SQL that makes the table event_inbox, in the first schema of the search_path, unless it is there. It may
// be a migration of the application's, or be run at every start.
func Schema() string { return schemaSQL }

// Whoever enters the same id at the same time is waited for here: whether it commits decides which of the two is first.
const enterSQL = `insert into event_inbox (consumer, id) values ($1, $2) on conflict do nothing`

// Enter enters the event id for a consumer, and says whether it is there for the first time: only then is the work to be
// done, in the same transaction. If that is rolled back, the event has not been entered. Enter takes a transaction and no
// connection, for outside of one the id would stay whatever becomes of the work.
//
// Where another transaction has entered it meanwhile, one that is repeatable read or serializable fails with SQLSTATE
// 40001, as always there: run it again.
func Enter(ctx context.Context, tx pgx.Tx, consumer, id string) (first bool, err error) {
	if err := named(consumer, id); err != nil {
		return false, err
	}
	tag, err := tx.Exec(ctx, enterSQL, consumer, id)
	if err != nil {
		return false, fmt.Errorf("enter event %s in the inbox of %s: %w", id, consumer, err)
	}
	return tag.RowsAffected() == 1, nil
}

// EnterSQL is Enter for a transaction of database/sql, with any driver for Postgres.
func EnterSQL(ctx context.Context, tx *sql.Tx, consumer, id string) (first bool, err error) {
	if err := named(consumer, id); err != nil {
		return false, err
	}
	n, err := affected(tx.ExecContext(ctx, enterSQL, consumer, id))
	if err != nil {
		return false, fmt.Errorf("enter event %s in the inbox of %s: %w", id, consumer, err)
	}
	return n == 1, nil
}

// named refuses names that are empty. A header that is missing reads as "", and every event without one but the first
// would be taken for done.
func named(consumer, id string) error {
	if consumer == "" {
		return errors.New("enter an event in an inbox: the consumer has no name")
	}
	if id == "" {
		return errors.New("enter an event in an inbox: the event has no id; has the record a header \"id\"?")
	}
	return nil
}

// Rows that another sweep is at are left to it, rather than waited for.
const sweepSQL = `delete from event_inbox where ctid = any (array(
	select ctid from event_inbox where consumer = $1 and entered_at < now() - make_interval(secs => $2)
	order by entered_at limit $3 for update skip locked))`

// sweepBatch is how many rows one statement deletes: some milliseconds of work, after which its locks and its WAL are
// behind it.
const sweepBatch = 1000

// Execer is what a *pgxpool.Pool, a *pgx.Conn and others have in common.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Sweep deletes what was entered for a consumer longer than olderThan ago, in small transactions, and says how many rows
// that was. It may be called at any time, by several at once.
//
// An event that is delivered after its id is gone is processed again. So olderThan is longer than anybody may go back in the
// topic: its retention, where offsets may be reset to the beginning.
func Sweep(ctx context.Context, db Execer, consumer string, olderThan time.Duration) (swept int64, err error) {
	return sweep(consumer, olderThan, func(args ...any) (int64, error) {
		tag, err := db.Exec(ctx, sweepSQL, args...)
		return tag.RowsAffected(), err
	})
}

// SweepSQL is Sweep for database/sql.
func SweepSQL(ctx context.Context, db *sql.DB, consumer string, olderThan time.Duration) (swept int64, err error) {
	return sweep(consumer, olderThan, func(args ...any) (int64, error) {
		return affected(db.ExecContext(ctx, sweepSQL, args...))
	})
}

func sweep(consumer string, olderThan time.Duration, batch func(args ...any) (int64, error)) (swept int64, err error) {
	if olderThan <= 0 {
		return 0, fmt.Errorf("sweep the inbox of %s: %s ago is no time in the past", consumer, olderThan)
	}
	for {
		n, err := batch(consumer, olderThan.Seconds(), sweepBatch)
		if err != nil {
			return swept, fmt.Errorf("sweep the inbox of %s: %w", consumer, err)
		}
		swept += n
		if n < sweepBatch {
			return swept, nil
		}
	}
}

// affected is how many rows a statement of database/sql has changed.
func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
