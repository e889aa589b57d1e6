package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

var (
	// ErrNotOwner says that the slot is not streamed by the walsender of the claim, not any more or not yet, and
	// that the row was left alone.
	ErrNotOwner = errors.New("the replication slot is not ours")
	// ErrSuperseded says that a newer session has taken the row, and that nothing was written.
	ErrSuperseded = errors.New("a newer session has taken the checkpoint")
	// ErrBackwards says that a save would have moved the checkpoint back, which is a broken invariant of the caller,
	// and that nothing was written.
	ErrBackwards = errors.New("a checkpoint never moves backwards")
)

// Store is the row of one relay, for the session that took it. Each write is one statement, hence one transaction, and
// carries the condition that the row's generation is still the session's: as soon as a newer session has taken the
// row, an older one can write nothing more. One statement also means that a process frozen in the middle leaves no
// transaction open, whose lock would keep its successor waiting.
//
// A Store, like its connection, is used by one goroutine at a time. An error other than ErrSuperseded and ErrBackwards
// leaves it unknown whether the write took place.
type Store struct {
	conn       *pgx.Conn
	name       string
	generation int64
	lsn        pglogrepl.LSN // as last stored
}

// Claim is what a session brings along to take a row.
type Claim struct {
	Name     string // of the relay
	Instance string // of the process
	Slot     string
	// WalsenderPID is the server process that streams Slot to us: the proof that the slot is ours.
	WalsenderPID uint32

	// The rest goes into a row that is made, at the very first start; one that is there keeps what it has.
	SystemID       string
	Timeline       uint32        // that LSN lies on
	LSN            pglogrepl.LSN // where the slot begins: its confirmed_flush_lsn
	KafkaClusterID string        // may be empty, as long as none was reached
	Delivery       string
	DecodeHash     string // may be empty
}

// The slot is asked in the same statement that takes the row: between two, it could move to another relay.
// The predecessor is read from the statement's snapshot, which is from before its own change, and from before that of
// another one that it waited for: good enough for a log line, and for nothing else. Whether the row is new is told by
// its generation.
const takeSQL = `insert into outrider.checkpoint as c (name, format, generation, instance, heartbeat_at,
		system_id, timeline, slot, lsn, kafka_cluster_id, delivery, decode_hash, updated_at)
	select $1, $2, 1, $3, clock_timestamp(),
		$6, $7, s.slot_name, $8::text::pg_lsn, nullif($9, ''), $10, nullif($11, ''), clock_timestamp()
	from pg_replication_slots s
	where s.slot_name = $4 and s.active_pid = $5
	on conflict (name) do update
		set generation = c.generation + 1, instance = excluded.instance,
			heartbeat_at = excluded.heartbeat_at, updated_at = excluded.updated_at
		where c.format <= excluded.format
	returning ` + rowColumns + `,
		coalesce((select p.instance from outrider.checkpoint p where p.name = c.name), ''),
		(select p.heartbeat_at from outrider.checkpoint p where p.name = c.name)`

// Take takes the row for a new session, which fences every older one, and returns the row as it was left, with the new
// generation. first says that there was no row and one has been made. It fails with ErrNotOwner unless the claim's
// walsender streams the slot, and on a connection where a commit could return before it is durable. The tables must exist.
func Take(ctx context.Context, conn *pgx.Conn, c Claim) (store *Store, row Row, first bool, err error) {
	if err := checkDurable(ctx, conn); err != nil {
		return nil, Row{}, false, fmt.Errorf("take the checkpoint of %s: %w", c.Name, err)
	}
	var heartbeat *time.Time // nil where the statement's snapshot holds no predecessor
	err = conn.QueryRow(ctx, takeSQL, c.Name, Format, c.Instance, c.Slot, int32(c.WalsenderPID),
		c.SystemID, int64(c.Timeline), c.LSN.String(), c.KafkaClusterID, c.Delivery, c.DecodeHash).
		Scan(append(row.columns(), &row.Instance, &heartbeat)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, Row{}, false, notTaken(ctx, conn, c)
	}
	if err != nil {
		return nil, Row{}, false, fmt.Errorf("take the checkpoint of %s: %w", c.Name, err)
	}
	if heartbeat != nil {
		row.HeartbeatAt = *heartbeat
	}
	return &Store{conn: conn, name: c.Name, generation: row.Generation, lsn: row.LSN}, row, row.Generation == 1, nil
}

// notTaken tells why Take found nothing to take.
func notTaken(ctx context.Context, conn *pgx.Conn, c Claim) error {
	if _, _, err := Read(ctx, conn, c.Name); err != nil {
		return err
	}
	return fmt.Errorf("take the checkpoint of %s: %w: slot %s is not streamed by server process %d",
		c.Name, ErrNotOwner, c.Slot, c.WalsenderPID)
}

// checkDurable refuses a connection whose commits return before they are flushed (off), or before a synchronous
// standby, where there is one, has them (local): the slot may be confirmed up to what is stored, and WAL that
// was confirmed is gone, so a checkpoint must not be forgotten in a crash or a failover.
func checkDurable(ctx context.Context, conn *pgx.Conn) error {
	var setting string
	if err := conn.QueryRow(ctx, "select current_setting('synchronous_commit')").Scan(&setting); err != nil {
		return err
	}
	switch setting {
	case "on", "remote_write", "remote_apply":
		return nil
	}
	return fmt.Errorf("synchronous_commit is %s on this connection; it must be on", setting)
}

// Generation is the session's.
func (s *Store) Generation() int64 { return s.generation }

// Progress is what a save makes durable.
type Progress struct {
	LSN      pglogrepl.LSN // the safe LSN
	Timeline uint32        // that LSN lies on
	Clean    bool          // the last save of a session that has delivered everything and ends
}

const saveSQL = `update outrider.checkpoint
	set lsn = $3::text::pg_lsn, timeline = $4, clean = $5,
		heartbeat_at = clock_timestamp(), updated_at = clock_timestamp()
	where name = $1 and generation = $2`

// Save makes p durable; when it returns nil the slot may be confirmed up to p.LSN. It is a heartbeat too.
func (s *Store) Save(ctx context.Context, p Progress) error {
	sql := saveSQL
	if planted("a save without the generation") {
		sql = strings.Replace(sql, "generation = $2", "generation >= $2", 1)
	}
	err := ErrBackwards
	if p.LSN >= s.lsn {
		err = s.write(ctx, sql, p.LSN.String(), int64(p.Timeline), p.Clean)
	}
	if err != nil {
		return fmt.Errorf("save the checkpoint of %s at %s, after %s: %w", s.name, p.LSN, s.lsn, err)
	}
	s.lsn = p.LSN
	return nil
}

const heartbeatSQL = `update outrider.checkpoint set heartbeat_at = clock_timestamp()
	where name = $1 and generation = $2`

// Heartbeat says that the session lives, by the server's clock.
func (s *Store) Heartbeat(ctx context.Context) error {
	if err := s.write(ctx, heartbeatSQL); err != nil {
		return fmt.Errorf("heartbeat of %s: %w", s.name, err)
	}
	return nil
}

// MoveTo lets the next Save be at lsn or above, also where that lies below what is stored: a person has decided that what is
// stored does not count any more.
func (s *Store) MoveTo(lsn pglogrepl.LSN) { s.lsn = lsn }

// Identity is what a row belongs to.
type Identity struct {
	SystemID       string
	Slot           string
	KafkaClusterID string // may be empty, as long as none was reached
	Delivery       string
	DecodeHash     string // may be empty
}

const identifySQL = `update outrider.checkpoint
	set system_id = $3, slot = $4, kafka_cluster_id = nullif($5, ''), delivery = $6, decode_hash = nullif($7, ''),
		updated_at = clock_timestamp()
	where name = $1 and generation = $2`

// Identify records what the row belongs to from now on, once the session has found that it may: what the row said before
// is what the verdicts are about.
func (s *Store) Identify(ctx context.Context, id Identity) error {
	err := s.write(ctx, identifySQL, id.SystemID, id.Slot, id.KafkaClusterID, id.Delivery, id.DecodeHash)
	if err != nil {
		return fmt.Errorf("record what the checkpoint of %s belongs to: %w", s.name, err)
	}
	return nil
}

const addProducerIDSQL = `update outrider.checkpoint
	set producer_ids = case when $3 = any (producer_ids) then producer_ids else producer_ids || $3 end,
		updated_at = clock_timestamp()
	where name = $1 and generation = $2`

// AddProducerID adds a Kafka producer id to those that the relay has used. It comes before the first record that
// carries the id, or a restart would not know that record for its own.
func (s *Store) AddProducerID(ctx context.Context, id int64) error {
	if err := s.write(ctx, addProducerIDSQL, id); err != nil {
		return fmt.Errorf("add producer id %d to the checkpoint of %s: %w", id, s.name, err)
	}
	return nil
}

// write runs a statement that changes the row while its generation is ours; $1 and $2 are the name and the generation.
func (s *Store) write(ctx context.Context, sql string, args ...any) error {
	failpoint("row's write begins")
	tag, err := s.conn.Exec(ctx, sql, append([]any{s.name, s.generation}, args...)...)
	failpoint("row's write answered")
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrSuperseded
	}
	return err
}
