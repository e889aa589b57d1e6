package cdc

import (
	"context"
	"fmt"
	"time"
)

// reportInterval is the time between two status reports when nothing else asks for one: a second, or a quarter of the silence
// after which the server gives us up.
func reportInterval(walSenderTimeout time.Duration) time.Duration {
	if walSenderTimeout == 0 {
		return time.Second
	}
	return min(time.Second, walSenderTimeout/4)
}

// report owns the write half of the replication connection. It tells Postgres what has been received and what may be
// forgotten, whatever the reader is waiting for: a stalled Kafka must not look like a dead relay. It returns nil when it has
// said goodbye.
func (s *session) report(ctx context.Context) error {
	defer s.beats.done("report")
	tick := time.NewTicker(s.reportInterval)
	defer tick.Stop()
	var last time.Time
	var told lsn
	for {
		s.beats.beat("report")
		due := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.goodbye:
			if err := s.sendReport(false); err != nil {
				return err
			}
			failpoint("drain reported")
			return s.repl.sendCopyDone()
		case <-tick.C:
			due = true
		case <-s.reportNow:
		}
		confirmed := lsn(s.confirmed.Load())
		ask := s.askReply.Swap(false)
		// A server that shuts down asks thousands of times a second: it is answered at once when something changed,
		// else with the next tick.
		if !due && !ask && confirmed == told && time.Since(last) < s.reportInterval {
			continue
		}
		failpoint("report due")
		if err := s.sendReport(ask); err != nil {
			return err
		}
		failpoint("reported")
		told, last = confirmed, time.Now()
	}
}

// sendReport sends one status: write = received, flush = apply = confirmed.
func (s *session) sendReport(ask bool) error {
	// Confirmed is read first: it only grows, and never passes received.
	confirmed := lsn(s.confirmed.Load())
	if planted("what was received is confirmed") {
		confirmed = s.tracker.Received()
	}
	if err := s.repl.sendStatus(max(s.tracker.Received(), confirmed), confirmed, ask); err != nil {
		return fmt.Errorf("report to Postgres: %w", err)
	}
	return nil
}

// tellReport wakes the report loop.
func (s *session) tellReport() {
	select {
	case s.reportNow <- struct{}{}:
	default:
	}
}
