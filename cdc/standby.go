package cdc

import (
	"context"
	"time"
)

const (
	// standbyPoll is how often a relay that stands by looks whether the slot is free.
	standbyPoll = 500 * time.Millisecond
	// rehearsalInterval is the time between two looks at Kafka, rehearsalRetry after one that went wrong.
	rehearsalInterval = 30 * time.Second
	rehearsalRetry    = 2 * time.Second
)

// standBy waits until the slot's owner lets it go, and looks at everything again then: what was seen before may be days old. It
// never hammers START_REPLICATION, and blocks in nothing that holds a snapshot. The session's connections stay open, and
// Kafka is asked from time to time, so that what would keep this relay from taking over shows before it has to.
func (s *session) standBy(ctx context.Context) error {
	s.stoodBy = true
	if err := s.awaitSlot(ctx); err != nil {
		return err
	}
	now, err := preflight(ctx, s.control, &s.cfg.Postgres)
	if err != nil {
		return err
	}
	if now.server != s.facts.server {
		return errStandby // it was promoted: the timelines that the session knows are not its own any more
	}
	s.facts, s.looked = now, time.Now()
	return s.judgeRow(ctx)
}

// awaitSlot returns when nobody reads the slot.
func (s *session) awaitSlot(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	rehearsed, done := make(chan error), make(chan struct{})
	go func() { defer close(done); s.rehearse(ctx, rehearsed) }()
	defer func() { cancel(); <-done }()
	tick := time.NewTicker(standbyPoll)
	defer tick.Stop()
	// Not able to take over before that has been seen.
	holder, state, but := "", Starting, "; whether Kafka would take this relay is being asked"
	for slot := s.facts.slot; ; {
		if holder == "" {
			who, err := slot.holder(ctx, s.control)
			if err != nil {
				return err
			}
			holder = "slot " + s.cfg.Postgres.Slot + " is read by " + who
		}
		s.relay.setState(state, holder+but)
		s.beats.beat("run")
		failpoint("standing by")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-rehearsed:
			state, but = Standby, ""
			if err != nil {
				state, but = Degraded, "; standing by, but Kafka would not take this relay: "+err.Error()
			}
			continue
		case <-tick.C:
		}
		seen, err := readSlot(ctx, s.control, s.cfg.Postgres.Slot)
		if err != nil || seen == nil || seen.lost() != "" || !seen.Active {
			return err
		}
		end, err := readWALEnd(ctx, s.control)
		if err != nil {
			return err
		}
		now := s.facts
		now.slot = seen
		s.relay.setServer(now, end)     // what the slot holds back shows here too, for as long as somebody else reads it
		s.relay.lag.restart(time.Now()) // what is not acked is the leader's lag
		if seen.ActivePID != slot.ActivePID {
			slot, holder = seen, ""
		}
	}
}

// rehearse tells, again and again, whether Kafka would take this relay, until ctx ends.
func (s *session) rehearse(ctx context.Context, told chan<- error) {
	for {
		var err error
		if s.cfg.Rehearse != nil {
			err = s.cfg.Rehearse(ctx)
		}
		select {
		case told <- err:
		case <-ctx.Done():
			return
		}
		pause := rehearsalInterval
		if err != nil {
			pause = rehearsalRetry
		}
		if s.relay.sleep(ctx, pause); ctx.Err() != nil {
			return
		}
	}
}
