package cdc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// readWALEnd asks for the end of the server's WAL: what is written there may still be on its way to disk.
func readWALEnd(ctx context.Context, conn *pgx.Conn) (lsn, error) {
	var text string
	if err := conn.QueryRow(ctx, `select pg_current_wal_insert_lsn()::text`).Scan(&text); err != nil {
		return 0, fmt.Errorf("read the end of WAL: %w", err)
	}
	end, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return 0, fmt.Errorf("read the end of WAL: %w", err)
	}
	return end, nil
}

// watch looks at the server's end of WAL and at the slot, once a save interval: what lag, retained WAL and the state say comes from here.
func (s *session) watch(ctx context.Context) error {
	end, err := readWALEnd(ctx, s.control)
	if err != nil {
		return err
	}
	slot, err := readSlot(ctx, s.control, s.cfg.Postgres.Slot)
	if err != nil {
		return err
	}
	if slot == nil {
		return s.slotGone("it was dropped while it was being read")
	}
	if why := slot.lost(); why != "" {
		return s.slotGone(why) // the server ends the stream too, but not while it waits for us to read
	}
	s.facts.slot = slot
	if err := s.rethink(ctx); err != nil {
		return err
	}
	if time.Since(s.looked) > lookInterval {
		if err := s.lookAgain(ctx); err != nil {
			return err
		}
	}
	s.relay.lag.sample(time.Now(), end)
	s.relay.setServer(s.facts, end)
	s.showState(end)
	return nil
}

// lookInterval is the time between two looks at publication, tables and role while the relay runs.
const lookInterval = time.Minute

// lookAgain finds what was changed under the running relay: a publication that lost its table, a table that was swapped for
// another, a privilege that was revoked. Rows may be missing from the stream then, which nothing else would show.
func (s *session) lookAgain(ctx context.Context) error {
	now, err := preflight(ctx, s.control, &s.cfg.Postgres)
	var found findings
	if err != nil && !errors.As(err, &found) {
		return err
	}
	if err == nil && now.publication == nil {
		found = missingPublication(&s.cfg.Postgres)
	}
	concern := ""
	if len(found) > 0 {
		concern = found.Error()
	}
	if concern != s.concern && concern != "" {
		s.log.Warn().Msg(concern)
	}
	s.concern, s.looked = concern, time.Now()
	return nil
}

// showState says what the session is doing: a sink in trouble and a slot that holds back too much make it degraded.
func (s *session) showState(end lsn) {
	if s.stopping.Load() || s.announced.Load() {
		return
	}
	trouble := s.sink.Trouble()
	retained, limit := int64(end-min(end, s.facts.slot.Restart)), s.retainLimit()
	switch {
	case !s.streaming.Load():
		s.relay.setState(Starting, "waiting for Kafka"+s.trouble())
	case trouble != "":
		s.relay.setState(Degraded, trouble)
	case s.concern != "":
		s.relay.setState(Degraded, s.concern)
	case limit > 0 && retained > limit:
		s.relay.setState(Degraded, fmt.Sprintf("the slot holds back %d bytes of WAL, more than %d (postgres.max_retained_wal)", retained, limit))
	default:
		s.relay.setState(Relaying, "")
	}
}

// retainLimit is the retained WAL from which on the relay is degraded; 0: there is none.
func (s *session) retainLimit() int64 {
	if s.cfg.Postgres.MaxRetainedWAL > 0 {
		return s.cfg.Postgres.MaxRetainedWAL
	}
	return max(0, s.facts.maxSlotWAL/10*8)
}

// setServer shows what is known of the server.
func (r *Relay) setServer(f facts, end lsn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serverEnd = end
	r.server = PostgresStatus{Version: f.versionText, SystemID: f.server.systemID, Timeline: f.server.timeline, Slot: r.cfg.Postgres.Slot}
	if f.slot != nil {
		r.server.SlotStatus, r.server.SlotActive, r.server.SafeBytes = f.slot.WALStatus, f.slot.Active, f.slot.SafeBytes
		r.server.RetainedBytes = int64(end - min(end, f.slot.Restart))
	}
}

// ran notes that a session streams: what was configured works, so that later errors are retried.
func (r *Relay) ran() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.everRan = true
}
