package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// The witness reads a slot of its own beside the relay, by other code: what Postgres itself says was committed, in which order
// and at which positions.

const witnessName = "witness" // slot and publication

// witness reads the log.
type witness struct {
	database *database
	journal  *journal
	// read is the end of what has been witnessed; rebuilt counts the times that its slot had to be made anew, and what was
	// committed meanwhile was not witnessed.
	read    atomic.Uint64
	rebuilt atomic.Int32
}

// run reads until ctx ends, over whatever becomes of the server.
func (w *witness) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.stream(ctx); err != nil && ctx.Err() == nil {
			if f, failed := err.(*stageError); failed {
				return f
			}
			pause(ctx, 100*time.Millisecond)
		}
	}
	return nil
}

// stageError is a failure of the run itself.
type stageError struct{ err error }

func (e *stageError) Error() string { return e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

// stream reads from the present primary as long as that goes.
func (w *witness) stream(ctx context.Context) error {
	if err := w.ensureSlot(ctx); err != nil {
		return err
	}
	conn, err := pgconn.Connect(ctx, w.database.url()+"&replication=database")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	options := pglogrepl.StartReplicationOptions{PluginArgs: []string{"proto_version '1'", "publication_names '" + witnessName + "'"}}
	if err := pglogrepl.StartReplication(ctx, conn, witnessName, 0, options); err != nil {
		return err
	}
	t := &testimony{journal: w.journal}
	reported := time.Now()
	for {
		wait, cancel := context.WithTimeout(ctx, time.Second)
		message, err := conn.ReceiveMessage(wait)
		cancel()
		if err != nil && (ctx.Err() != nil || !pgconn.Timeout(err)) { // the end of ctx looks like a time-out too
			return err
		}
		ask, err := t.hear(message)
		if err != nil {
			return err
		}
		w.read.Store(max(w.read.Load(), uint64(t.end)))
		if t.end > 0 && (ask || time.Since(reported) > time.Second) {
			reported = time.Now()
			if err := pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: t.end}); err != nil {
				return err
			}
		}
	}
}

// ensureSlot makes the slot where it is missing: in the beginning, and after a promotion that it did not follow.
func (w *witness) ensureSlot(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, w.database.url())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var there bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_replication_slots where slot_name = $1)`, witnessName).Scan(&there); err != nil || there {
		return err
	}
	w.rebuilt.Add(1)
	return w.database.createSlot(ctx, conn, witnessName)
}

// testimony is what one connection tells.
type testimony struct {
	journal   *journal
	relations map[uint32]*pglogrepl.RelationMessage
	begin     *pglogrepl.BeginMessage
	ids       []string
	end       pglogrepl.LSN // everything before it has been heard
}

// hear takes a message, and says whether the server asks for an answer.
func (t *testimony) hear(message pgproto3.BackendMessage) (ask bool, err error) {
	data, is := message.(*pgproto3.CopyData)
	if !is {
		if e, is := message.(*pgproto3.ErrorResponse); is {
			return false, pgconn.ErrorResponseToPgError(e)
		}
		return false, nil
	}
	switch data.Data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data.Data[1:])
		if err != nil {
			return false, &stageError{err}
		}
		if t.begin == nil {
			t.end = max(t.end, k.ServerWALEnd)
		}
		return k.ReplyRequested, nil
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err == nil {
			err = t.decode(x.WALData)
		}
		if err != nil {
			return false, &stageError{fmt.Errorf("the witness: %w", err)}
		}
	}
	return false, nil
}

func (t *testimony) decode(data []byte) error {
	message, err := pglogrepl.Parse(data)
	if err != nil {
		return err
	}
	switch m := message.(type) {
	case *pglogrepl.RelationMessage:
		if t.relations == nil {
			t.relations = make(map[uint32]*pglogrepl.RelationMessage)
		}
		t.relations[m.RelationID] = m
	case *pglogrepl.BeginMessage:
		t.begin, t.ids = m, t.ids[:0]
	case *pglogrepl.InsertMessage:
		for i, column := range t.relations[m.RelationID].Columns {
			if column.Name == "id" {
				t.ids = append(t.ids, string(m.Tuple.Columns[i].Data))
			}
		}
	case *pglogrepl.CommitMessage:
		err = t.journal.witness(t.begin.FinalLSN, m.TransactionEndLSN, t.ids)
		t.begin, t.end = nil, max(t.end, m.TransactionEndLSN)
	}
	return err
}

// witness notes a commit. An error is about the run: the log and the journal do not fit.
func (j *journal) witness(lsn, end pglogrepl.LSN, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	at := position{j.timelineOf(lsn), lsn}
	var tx *transaction
	for ordinal, text := range ids {
		id, err := parseEventID(text)
		of, row := j.find(id)
		switch {
		case err != nil || row == nil:
			return fmt.Errorf("the log has event %s at %s, which nobody has written", text, at)
		case tx != nil && of != tx:
			return fmt.Errorf("the log has events of transactions %d and %d in one commit at %s", tx.number, of.number, at)
		case of.witnessed && of.at != at:
			return fmt.Errorf("the log has transaction %d at %s and at %s", of.number, of.at, at)
		case of.witnessed:
			return nil // Postgres has crashed, and sends it again
		case of.outcome == aborted || row.fate == undone:
			return fmt.Errorf("the log has event %s at %s\n%s", text, at, j.describe(of, id.row))
		case row.ordinal >= 0 && row.ordinal != int32(ordinal):
			j.tally.violate(misplaced, "its position has ordinal %d, and it is %d\n%s", row.ordinal, ordinal, j.describe(of, id.row))
		}
		tx, row.ordinal = of, int32(ordinal)
	}
	tx.witnessed, tx.at, tx.end = true, at, end
	j.witnessed = append(j.witnessed, tx)
	if tx.told != (position{}) && tx.told != at {
		j.tally.violate(misplaced, "its position is of the commit %s, and it was %s\n%s", tx.told, at, j.describe(tx, 0))
	}
	return nil
}

// agree compares what the writers know with what the log has, as far as it was witnessed.
func (j *journal) agree() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, tx := range j.transactions[1:] {
		written := false
		for i := range tx.rows {
			written = written || tx.rows[i].fate != undone
		}
		if tx.witnessed != (tx.outcome == committed) && written {
			return fmt.Errorf("transaction %d is %s, says its writer (%s); the log has it: %t", tx.number, tx.outcome, tx.why, tx.witnessed)
		}
	}
	return nil
}
