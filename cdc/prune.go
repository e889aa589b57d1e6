package cdc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/checkpoint"
)

// ErrUndelivered says that a relay has not delivered, for as long as it was waited for, what was committed when Prune began.
var ErrUndelivered = errors.New("nothing was deleted")

const (
	// markPoll is the time between two looks whether a mark is passed.
	markPoll = 200 * time.Millisecond
	// prunePatience is how long Prune waits for the relay to pass its mark.
	prunePatience = time.Minute
)

// Prune deletes the rows of the outbox tables that the relay has delivered and that are older than age, once. It takes a
// running relay: one that is stopped has delivered everything up to its checkpoint, but which rows those are nobody can tell.
// letGo is a person's word that rows which are kept need not be any more, from now on.
func Prune(ctx context.Context, cfg *Config, age time.Duration, letGo string) (Pruned, error) {
	conn, err := dialControl(ctx, &cfg.Postgres)
	if err != nil {
		return Pruned{}, advised(err, &cfg.Postgres)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tables, err := readAgedTables(ctx, conn, cfg)
	if err != nil {
		return Pruned{}, err
	}
	m, err := takeMark(ctx, conn)
	if err != nil {
		return Pruned{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, prunePatience)
	defer cancel()
	if err := awaitMark(waiting, conn, cfg, m); err != nil {
		return Pruned{}, err
	}
	if letGo != "" {
		if err := letGoOfKept(ctx, conn, cfg, letGo); err != nil {
			return Pruned{}, err
		}
	}
	if m.kept, err = keptRows(ctx, conn, cfg); err != nil {
		return Pruned{}, err
	}
	return prune(ctx, conn, tables, m, age)
}

// awaitMark waits until the relay has stored the mark. An idle relay stores nothing until so much WAL has passed that it is
// worth it: it is given that much.
func awaitMark(ctx context.Context, conn *pgx.Conn, cfg *Config, m mark) error {
	for looks := 0; ; looks++ {
		slot, err := readSlot(ctx, conn, cfg.Postgres.Slot)
		if err != nil {
			return err
		}
		row, known, err := checkpoint.Read(ctx, conn, cfg.Name)
		if err != nil {
			return err
		}
		verdict, _, err := row.Pending()
		switch {
		case err != nil:
			return err
		case !known:
			return fmt.Errorf("%w: relay %s has no checkpoint in this database", ErrUndelivered, cfg.Name)
		case row.SystemID != m.server.systemID || verdict != nil:
			return fmt.Errorf("%w: relay %s is blocked, or its checkpoint is of another database: outrider status --offline", ErrUndelivered, cfg.Name)
		case row.Timeline == m.server.timeline && row.LSN >= m.lsn:
			return nil
		case slot == nil || !slot.Active:
			return fmt.Errorf("%w: relay %s does not run; its checkpoint %s lies before %s, and what is in between may not be delivered", ErrUndelivered, cfg.Name, row.LSN, m.lsn)
		}
		if looks == int(time.Second/markPoll) {
			if _, err := conn.Exec(ctx, `select pg_logical_emit_message(true, 'outrider.prune', repeat(' ', $1))`, idleAdvance+1<<10); err != nil {
				return fmt.Errorf("move the WAL on: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: relay %s has delivered up to %s, and %s was committed when this began. Is Kafka away? outrider status", ErrUndelivered, cfg.Name, row.LSN, m.lsn)
		case <-time.After(markPoll):
		}
	}
}

// retain deletes what is delivered and older than Config.Retention, again and again, on a connection of its own. What goes wrong
// with it keeps no event from being delivered, and is told in the log.
func (s *session) retain(ctx context.Context) error {
	told := ""
	var kept checkpoint.Kept
	for ctx.Err() == nil {
		switch pruned, err := s.retainOnce(ctx); {
		case ctx.Err() != nil:
		case err != nil && err.Error() != told:
			told = err.Error()
			s.log.Warn().Err(err).Msg("outbox.retention: old rows stay for now; it is tried again")
		case err == nil:
			told = ""
			if pruned.Kept != nil && pruned.Kept.XID != kept.XID {
				kept = *pruned.Kept
				s.log.Info().Time("before", kept.At).Str("why", kept.Why).Msg("outbox.retention: rows of before stay, for they may not be on Kafka; outrider prune --passed-over lets them go")
			}
			if pruned.Rows > 0 || len(pruned.Partitions) > 0 {
				s.log.Info().Int64("rows", pruned.Rows).Strs("partitions", pruned.Partitions).Msg("old rows of the outbox deleted (outbox.retention)")
			}
		}
		s.relay.sleep(ctx, retentionInterval(s.cfg.Retention))
	}
	return nil
}

// retentionInterval is the time between two looks for old rows: a tenth of what they are kept for, within a second and a minute.
func retentionInterval(retention time.Duration) time.Duration {
	return min(max(retention/10, time.Second), time.Minute)
}

// retainOnce takes a mark, waits until it is stored, and deletes what lies below it.
func (s *session) retainOnce(ctx context.Context) (Pruned, error) {
	conn, err := dialControl(ctx, &s.cfg.Postgres)
	if err != nil {
		return Pruned{}, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tables, err := readAgedTables(ctx, conn, s.cfg)
	if err != nil {
		return Pruned{}, err
	}
	m, err := takeMark(ctx, conn)
	if err == nil {
		err = sameServer(s.facts.server, m.server)
	}
	if err != nil {
		return Pruned{}, err
	}
	s.wanted.Store(uint64(m.lsn))
	for lsn(s.stored.Load()) < m.lsn {
		if s.relay.sleep(ctx, markPoll); ctx.Err() != nil {
			return Pruned{}, ctx.Err()
		}
	}
	if m.kept, err = s.renewKept(ctx, conn); err != nil {
		return Pruned{}, err
	}
	return prune(ctx, conn, tables, m, s.cfg.Retention)
}
