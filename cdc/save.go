package cdc

import (
	"context"
	"fmt"
	"time"

	"github.com/outrider-relay/outrider/checkpoint"
)

const (
	// heartbeatInterval is the time between two signs of life in the checkpoint row.
	heartbeatInterval = 5 * time.Second
	// watchInterval is the time between two looks at the slot where checkpoints are saved more rarely.
	watchInterval = time.Second
	// idleAdvance is how much WAL must have passed before a position without any event of ours is stored: an idle
	// database must come to rest, and our own row is WAL as well.
	idleAdvance = 1 << 20
	// queryTimeout ends a session whose database does not answer.
	queryTimeout = 60 * time.Second
	// endGrace is what a statement has left when its session ends.
	endGrace = time.Second
)

// save owns the control connection from the claim of the checkpoint row on: what is delivered is stored first, and only
// then may Postgres forget it. It also keeps the heartbeat, and looks at the slot. It returns nil when it was asked to stop.
func (s *session) save(ctx context.Context) error {
	defer s.beats.done("save")
	saves, looks := time.NewTicker(s.cfg.CheckpointInterval), time.NewTicker(watchInterval)
	defer saves.Stop()
	defer looks.Stop()
	if s.cfg.CheckpointInterval <= watchInterval {
		looks.Stop()
	}
	heartbeat := time.Now()
	for due := true; ; {
		s.beats.beat("save")
		if due {
			if err := s.saveDue(ctx); err != nil {
				return err
			}
		}
		if time.Since(heartbeat) >= heartbeatInterval {
			if err := s.ask(ctx, s.store.Heartbeat); err != nil {
				return err
			}
			heartbeat = time.Now()
		}
		if err := s.ask(ctx, s.watch); err != nil {
			return fmt.Errorf("look at the slot: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.saverStop:
			return nil
		case <-saves.C:
			due = true
		case <-s.saveNow:
			due = true
		case <-looks.C:
			due = false
		}
	}
}

// ask uses the control connection, one caller at a time and in bounded time. A statement that is under way when its session
// ends may still finish: pgx closes the connection of one that is cancelled, and the last save and the verdict need it.
func (s *session) ask(ctx context.Context, f func(context.Context) error) error {
	select {
	case s.storing <- struct{}{}:
		defer func() { <-s.storing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), queryTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(endGrace, cancel) })()
	return f(asking)
}

// safe is what is delivered: the end of the longest fully acked prefix.
func (s *session) safe() lsn { return s.tracker.Safe(s.sink.Oldest) }

// saveDue stores the safe position when there is something to say. Where there is not, a decision is settled all the same:
// one that is left standing would answer the next verdict too.
func (s *session) saveDue(ctx context.Context) error {
	safe := s.safe()
	wanted := lsn(s.wanted.Load())
	waitedFor := lsn(s.stored.Load()) < wanted && wanted <= safe
	if events, wal := s.tracker.Gain(); events == 0 && wal <= idleAdvance && !waitedFor {
		return s.settle(ctx)
	}
	return s.keep(ctx, safe, false)
}

// keep stores safe, and then lets Postgres forget what lies below. clean says that nothing above it was ever sent.
func (s *session) keep(ctx context.Context, safe lsn, clean bool) error {
	if err := s.checkOrder(safe); err != nil {
		return err
	}
	failpoint("save begins")
	s.savingSince.Store(time.Now().UnixNano())
	defer s.savingSince.Store(0)
	err := s.ask(ctx, func(ctx context.Context) error {
		return s.store.Save(ctx, checkpoint.Progress{LSN: safe, Timeline: s.timelines.owner(safe), Clean: clean})
	})
	if err != nil {
		return err
	}
	failpoint("stored")
	s.tracker.Stored(safe)
	s.sink.Stored(s.tracker.StoredNext())
	s.stored.Store(uint64(safe))
	s.confirmed.Store(uint64(safe)) // what is confirmed is what was stored, never what is merely safe
	failpoint("confirmed")
	s.tellReport()
	if err := s.settle(ctx); err != nil {
		return err
	}
	select {
	case s.saved <- struct{}{}:
	default:
	}
	return nil
}

// checkOrder asserts confirmed <= stored <= acked <= received.
func (s *session) checkOrder(safe lsn) error {
	confirmed, stored, received := lsn(s.confirmed.Load()), lsn(s.stored.Load()), s.tracker.Received()
	if confirmed <= stored && stored <= safe && safe <= received {
		return nil
	}
	return fmt.Errorf("%w: confirmed %s <= stored %s <= acked %s <= received %s does not hold", ErrInvariant, confirmed, stored, safe, received)
}

// tellSave asks for a save now.
func (s *session) tellSave() {
	select {
	case s.saveNow <- struct{}{}:
	default:
	}
}
