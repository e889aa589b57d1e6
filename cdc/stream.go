package cdc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/outrider-relay/outrider/decoder"
)

// read owns the read half of the replication connection: block -> frames -> events -> sink. It returns nil when it was
// asked to stop and stands between two transactions, so that what a restart sends again is at most what is unacked.
func (s *session) read(ctx context.Context) error {
	for !s.mayStop() {
		if err := s.gate(ctx); err != nil {
			return err
		}
		if err := s.await(ctx); err != nil {
			return err
		}
		failpoint("block received")
		err := s.block()
		s.noteIgnored()
		if err != nil {
			err = s.announce(err)
			s.deliverBefore(ctx, err)
			return err
		}
		failpoint("block passed on")
	}
	return nil
}

// deliverBefore waits until what came before an event that the sink refuses is delivered. Where a table was altered in
// between, no setting suits both, and the session that the right one starts must find nothing but what it suits.
func (s *session) deliverBefore(ctx context.Context, err error) {
	var refused *sinkError
	var blocked *Blocked
	if !errors.As(err, &refused) && !errors.As(err, &blocked) {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, s.cfg.Drain)
	defer cancel()
	_ = s.sink.Drain(bounded) // a sink that has failed does not wait; either way it is err that ends the session
}

// await fills the buffer with at least one frame, unless it was asked to stop. A server that is silent for
// receiveTimeout is asked for a sign of life; when that does not come either, the connection is half-open.
func (s *session) await(ctx context.Context) error {
	s.beats.beat("read")
	defer s.beats.done("read") // the sink may hold the reader for as long as Kafka is away
	for asked := false; ; {
		// The deadline is armed only here: it is off while back-pressure holds the reader, so that a stalled Kafka
		// never looks like a dead Postgres.
		s.armReceive()
		if s.mayStop() { // asked after arming: the stop cuts the wait short by a deadline of its own
			return nil
		}
		err := s.repl.fill()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("read the replication stream: %w", err)
		}
		early := time.Since(s.receiveArmed) < s.receiveTimeout/2
		s.receiveArmed = time.Time{}
		switch {
		case early: // the stop's deadline; a transaction is still arriving
		case asked:
			return fmt.Errorf("read the replication stream: the server has sent nothing for %s, though it was asked to: the connection is dead", 2*s.receiveTimeout)
		default:
			asked = true
			s.askReply.Store(true)
			s.tellReport()
			s.beats.beat("read")
		}
	}
}

// mayStop says whether intake was asked to end and stands between two transactions.
func (s *session) mayStop() bool { return s.stopping.Load() && !s.inTransaction }

// armReceive sets the deadline of the next read; once in a while is enough, for it is far away.
func (s *session) armReceive() {
	now := time.Now()
	if now.Sub(s.receiveArmed) < s.receiveTimeout/8 {
		return
	}
	s.receiveArmed = now
	s.repl.setReadDeadline(now.Add(s.receiveTimeout))
}

// block handles every whole frame that is buffered. The sink is locked once for all of them.
func (s *session) block() error {
	s.sink.Begin()
	defer s.sink.End()
	for {
		typ, body, ok := s.repl.next()
		if !ok {
			return nil
		}
		if err := s.frame(typ, body); err != nil {
			return err
		}
		if s.mayStop() {
			return nil
		}
	}
}

// frame handles one message of the server.
func (s *session) frame(typ byte, body []byte) error {
	switch typ {
	case frameCopyData:
		if m, ok := parseWALData(body); ok {
			return s.wal(m)
		}
		if m, ok := parseKeepalive(body); ok {
			s.keepalive(m)
			return nil
		}
		return errors.New("replication stream: neither WAL data nor a keepalive")
	case frameError:
		return parseServerError(body)
	case frameNotice:
		return s.notice(body)
	case frameParameterStatus:
		return nil
	case frameCopyDone, frameCommandComplete, frameReady:
		return errors.New("replication stream: the server has ended it")
	}
	return fmt.Errorf("replication stream: unexpected message of type %q", typ)
}

// notice ends the session on the warning by which PostgreSQL 18 skips a publication that is missing: rows would pass unseen.
func (s *session) notice(body []byte) error {
	n := parseServerError(body)
	if classifyPg(n) == pgPublicationMissing {
		return n
	}
	s.cfg.Log.Info().Str("code", n.Code).Msg("the server says: " + n.Message)
	return nil
}

// wal decodes one message of the plugin.
func (s *session) wal(m walData) error {
	kind, err := s.decoder.Decode(m.start, m.data)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	switch kind {
	case decoder.KindBegin:
		s.inTransaction = true
		// What lies below the checkpoint has been delivered; Postgres sends it again after it went back in its own log.
		s.skipping = s.decoder.Event.Position.LSN < s.start
	case decoder.KindEvent:
		if s.skipping {
			s.relay.skipped.Add(1)
			return nil
		}
		if _, err := s.sink.Append(&s.decoder.Event, s.next); err != nil {
			return asSink(err)
		}
		s.next++
	case decoder.KindCommit:
		s.inTransaction = false
		if err := s.sink.Passed(s.decoder.Event.Position, s.next); err != nil {
			return asSink(err)
		}
		s.mark(s.decoder.End)
	}
	return nil
}

// keepalive takes the server's sign of life. Between two transactions it is the commit of one with nothing for us: the
// walsender has decoded up to there.
func (s *session) keepalive(m keepalive) {
	if !s.inTransaction {
		s.mark(m.serverEnd)
	}
	if m.replyRequested {
		s.tellReport()
	}
}

// mark notes that everything up to end has been received.
func (s *session) mark(end lsn) {
	if planted("a transaction's commit LSN is taken for its end") {
		end = s.decoder.Event.Position.LSN // and not that of a keepalive, which would soon make up for it
	}
	s.tracker.Mark(s.next, end)
}

// Intake stops while more than this has been received and not been stored: the tracker's memory, and what a restart repeats, are bounded.
const (
	maxUnstoredEvents = 1_000_000
	maxUnstoredWAL    = 256 << 20
	// maxSaveTime is how long a save may take before intake stops.
	maxSaveTime = 30 * time.Second
)

// gate is the back-pressure that comes from the checkpoint; the sink's is in Append.
func (s *session) gate(ctx context.Context) error {
	for s.unstoredTooMuch() && !s.mayStop() {
		s.tellSave()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.saved:
		case <-time.After(time.Second):
		}
		s.receiveArmed = time.Time{}
	}
	return nil
}

func (s *session) unstoredTooMuch() bool {
	events, wal := s.tracker.Ahead()
	began := s.savingSince.Load()
	return events > maxUnstoredEvents || wal > maxUnstoredWAL ||
		began != 0 && time.Since(time.Unix(0, began)) > maxSaveTime
}
