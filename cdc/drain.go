package cdc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// lastSaveTime is the least time that the last save has, whatever of Config.Drain the delivery has left.
const lastSaveTime = 5 * time.Second

// errUnstored says that a Postgres which has vanished without a word keeps a stop waiting no longer.
var errUnstored = errors.New("Postgres has not answered the last save")

// drain ends intake at a commit, delivers what is in flight, stores it, and says goodbye.
func (s *session) drain(work context.Context) error {
	s.relay.setState(Draining, "a stop was asked for")
	failpoint("drain begins")
	began := time.Now()
	bounded, cancel := context.WithTimeout(work, s.cfg.Drain)
	defer cancel()
	left := s.finish(bounded)
	if work.Err() != nil {
		return context.Cause(work)
	}
	close(s.saverStop)
	saving, stop := context.WithTimeoutCause(work, max(s.cfg.Drain-time.Since(began), lastSaveTime), errUnstored)
	defer stop()
	select {
	case <-s.saverDone:
	case <-saving.Done():
		return context.Cause(saving)
	}
	failpoint("saver stopped")
	// A stop before the tail is met delivers all that came, and leaves Kafka with more than the checkpoint says all the same.
	if err := s.keep(saving, s.safe(), left == "" && s.sink.Met()); err != nil {
		return cmp.Or(context.Cause(saving), err) // rather why than that it was cancelled
	}
	failpoint("drain saved")
	close(s.goodbye)
	select {
	case <-s.reportDone:
	case <-work.Done():
		return context.Cause(work)
	}
	failpoint("CopyDone sent")
	if left != "" {
		return fmt.Errorf("%w: after %s (timeouts.drain) it still waited for %s", ErrDrain, s.cfg.Drain, left)
	}
	return nil
}

// finish ends intake between two transactions and waits until everything is acked. It returns what it waited for in vain.
func (s *session) finish(ctx context.Context) (left string) {
	s.stopping.Store(true)
	s.repl.setReadDeadline(time.Now()) // a reader that waits between two transactions waits no longer
	select {
	case <-s.readerDone:
	case <-ctx.Done():
		return "the commit of the transaction that is arriving" + s.trouble()
	}
	failpoint("intake ended")
	if err := s.sink.Drain(ctx); err != nil {
		records, _ := s.sink.InFlight()
		return fmt.Sprintf("%d records that Kafka has not acked%s", records, s.trouble())
	}
	failpoint("sink drained")
	return ""
}

// trouble is the sink's, in brackets.
func (s *session) trouble() string {
	if t := s.sink.Trouble(); t != "" {
		return " (" + t + ")"
	}
	return ""
}
