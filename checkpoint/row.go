package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Format is the format of the rows that this program writes, and the highest that it reads.
const Format = 1

// ErrNewerFormat says that a newer program has written the row, and that this one can not know what it means.
var ErrNewerFormat = errors.New("the checkpoint was written by a newer version of Outrider")

// Row is a row of outrider.checkpoint.
type Row struct {
	Name       string
	Format     int
	Generation int64 // counts the sessions that took the row
	// Instance is the process that took the row last, and HeartbeatAt when it last said that it lives, by the
	// server's clock. A Row from Take holds those of the predecessor, for the log; empty at the very first start.
	Instance    string
	HeartbeatAt time.Time

	SystemID string // of the database cluster, as IDENTIFY_SYSTEM prints it
	Timeline uint32 // that LSN lies on
	Slot     string
	LSN      pglogrepl.LSN // the end of the last transaction up to which everything is delivered

	KafkaClusterID string // empty until one was reached
	Delivery       string
	ProducerIDs    []int64
	DecodeHash     string // empty until it matters
	// Clean says that the relay stopped with everything delivered and stored, so that Kafka holds nothing beyond
	// LSN. Take leaves it, so that a start that fails half way does not lose it: a session that is about to produce
	// saves once before, which clears it.
	Clean bool

	Verdict   json.RawMessage // why the relay is blocked; nil while it is not
	Decision  json.RawMessage // what a person decided about Verdict; nil until then
	UpdatedAt time.Time       // of anything but the heartbeat, by the server's clock
}

// rowColumns are what scanRow reads, of a row named c.
const rowColumns = `c.name, c.format, c.generation, c.system_id, c.timeline, c.slot, c.lsn::text,
	coalesce(c.kafka_cluster_id, ''), c.delivery, c.producer_ids, coalesce(c.decode_hash, ''), c.clean,
	c.verdict, c.decision, c.updated_at`

func (r *Row) columns() []any {
	return []any{
		&r.Name, &r.Format, &r.Generation, &r.SystemID, &r.Timeline, &r.Slot, &r.LSN,
		&r.KafkaClusterID, &r.Delivery, &r.ProducerIDs, &r.DecodeHash, &r.Clean,
		&r.Verdict, &r.Decision, &r.UpdatedAt,
	}
}

const readSQL = `select ` + rowColumns + `, c.instance, c.heartbeat_at
	from outrider.checkpoint c where c.name = $1`

// Read reads the row of the relay called name, and says whether there is one; there is none either where the table
// has not been created yet. It fences nobody.
func Read(ctx context.Context, conn *pgx.Conn, name string) (Row, bool, error) {
	var row Row
	err := conn.QueryRow(ctx, readSQL, name).Scan(append(row.columns(), &row.Instance, &row.HeartbeatAt)...)
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.As(err, &pgErr) && pgErr.Code == undefinedTable:
		return Row{}, false, nil
	case err != nil:
		return Row{}, false, fmt.Errorf("read the checkpoint of %s: %w", name, err)
	case row.Format > Format:
		return Row{}, false, newerFormat(name, row.Format)
	}
	return row, true, nil
}

const undefinedTable = "42P01" // SQLSTATE, also where the schema is missing

func newerFormat(name string, format int) error {
	return fmt.Errorf("read the checkpoint of %s: %w: its format is %d and this program knows %d; run the newer version",
		name, ErrNewerFormat, format, Format)
}
