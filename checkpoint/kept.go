package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Kept says which rows of the outbox stay, whatever their age, until a person lets them go: those that a relay has never read,
// or that somebody has decided to pass over. Of the rest, what lies below the checkpoint is in Kafka.
type Kept struct {
	// XID is the transaction from which on rows are not kept. A row tells the lower half of its transaction's id alone, and so At
	// has to hold too where four billion transactions have passed since.
	XID int64 `json:"xid"`
	// At is the time, as a row's own tells it, from which on rows are not kept.
	At time.Time `json:"at"`
	// Why says what happened then.
	Why string `json:"why"`
	// Published stands for what was published then: rows that were written while it was something else were perhaps not read.
	Published string `json:"published"`
}

// Everything that has been written before is kept from now on: its transactions have ids below the next one.
const keepSQL = `update outrider.checkpoint
	set kept = jsonb_build_object('xid', pg_snapshot_xmax(pg_current_snapshot())::text::bigint, 'at', clock_timestamp(), 'why', $3::text, 'published', $4::text)
	where name = $1 and generation = $2`

// Keep keeps every row that has been written so far, while the row's generation is the given one. A table that an older version
// has made may have no place for that; nothing may be deleted there at all, as Kept says.
func Keep(ctx context.Context, conn *pgx.Conn, name string, generation int64, why, published string) error {
	tag, err := conn.Exec(ctx, keepSQL, name, generation, why, published)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == undefinedColumn:
		return nil
	case err == nil && tag.RowsAffected() == 0:
		err = ErrSuperseded
	}
	if err != nil {
		return fmt.Errorf("note which rows %s keeps: %w", name, err)
	}
	return nil
}

const undefinedColumn = "42703" // SQLSTATE

const letGoSQL = `update outrider.checkpoint
	set kept = jsonb_build_object('xid', 0, 'at', '0001-01-01T00:00:00Z', 'why', $2::text, 'published', $3::text)
	where name = $1 and kept is not distinct from $4`

// LetGo keeps nothing any more, unless what is kept has changed since it was read.
func LetGo(ctx context.Context, conn *pgx.Conn, name string, was json.RawMessage, why, published string) error {
	tag, err := conn.Exec(ctx, letGoSQL, name, why, published, was)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrDecided
	}
	if err != nil {
		return fmt.Errorf("let go of the rows that %s keeps: %w", name, err)
	}
	return nil
}

// As JSON the row has whatever columns the table has.
const keptSQL = `select to_jsonb(c) ? 'kept', nullif(to_jsonb(c) -> 'kept', 'null') from outrider.checkpoint c where c.name = $1`

// ReadKept reads which rows are kept, and as it stands there; nil where that was never noted. possible is false where the table has
// no place for it.
func ReadKept(ctx context.Context, conn *pgx.Conn, name string) (kept *Kept, stands json.RawMessage, possible bool, err error) {
	if err := conn.QueryRow(ctx, keptSQL, name).Scan(&possible, &stands); err != nil {
		return nil, nil, false, fmt.Errorf("read which rows %s keeps: %w", name, err)
	}
	if stands == nil {
		return nil, nil, possible, nil
	}
	if err := json.Unmarshal(stands, &kept); err != nil {
		return nil, nil, false, fmt.Errorf("read which rows %s keeps: %w", name, err)
	}
	return kept, stands, possible, nil
}
