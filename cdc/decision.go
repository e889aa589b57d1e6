package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/decoder"
)

var (
	// errUndecided is the end of an attempt that found a verdict which nobody has decided about.
	errUndecided = errors.New("a verdict stands, and nobody has decided about it")
	// errRedecided is the end of a session while which a person has decided otherwise, or about what it was the first to tell: the
	// next one takes that up.
	errRedecided = errors.New("a person has decided otherwise meanwhile")
)

// heed takes up a decision, and stays out while there is none. A process looks for itself whether the verdict still holds, once, when
// it was started: somebody may have mended the cause. A relay that has been relaying or standing by does not: whoever led was
// blocked, and so would it be.
func (s *session) heed(row checkpoint.Row) error {
	verdict, decision, err := row.Pending()
	if err == nil {
		s.events, err = row.Events()
	}
	s.standing, s.verdict, s.decision = row.Standing(), nil, nil
	s.rivalry = verdict != nil && verdict.Case == rivalCase
	switch {
	case err != nil || verdict == nil:
		return err
	case decision != nil:
		s.verdict, s.decision = verdict, decision
		if s.accepts(checkpoint.SkipEvent) || s.accepts(checkpoint.DeadLetterEvent) {
			s.events = append(slices.DeleteFunc(s.events, func(e checkpoint.Decision) bool { return e.Position == decision.Position }), *decision)
		}
		s.log.Warn().Str("verdict", verdict.Case).Str("decision", string(decision.Action)).Str("by", decision.By).Msg("a decision is taken up")
		return nil
	case s.relay.looked || s.stoodBy:
		return &Blocked{
			Verdict: verdict.Case, Reason: verdict.Reason, Advice: verdict.Advice, Options: verdict.Options,
			Positions: verdict.Positions, More: verdict.More, Err: errUndecided,
		}
	}
	s.verdict = verdict
	return nil
}

// rethink ends a session that has taken up what is not what a person wants any more: while Kafka is away, or a dead letter's topic
// is missing, a decision waits for long. Where nothing stands in the row, nothing can have been decided about it.
func (s *session) rethink(ctx context.Context) error {
	if s.standing.Verdict == nil || s.announced.Load() {
		return nil
	}
	row, _, err := checkpoint.Read(ctx, s.control, s.cfg.Name)
	if err == nil && !row.Standing().Equal(s.standing) {
		err = s.redecided()
	}
	return err
}

// redecided is the end of the session.
func (s *session) redecided() error {
	s.log.Warn().Msg("a person has decided otherwise: the session starts over, and takes that up")
	return errRedecided
}

// accepts says whether an action was decided.
func (s *session) accepts(a checkpoint.Action) bool {
	return s.decision != nil && s.decision.Action == a
}

// acceptsLossOf says whether a loss was accepted in one of these cases: whoever accepts one must not accept another one unseen.
func (s *session) acceptsLossOf(cases ...string) bool {
	return s.accepts(checkpoint.AcceptLoss) && slices.Contains(cases, s.verdict.Case)
}

// pendingEvents are the decisions about single events that have not been passed yet.
func (s *session) pendingEvents() []checkpoint.Decision {
	return slices.DeleteFunc(slices.Clone(s.events), func(d checkpoint.Decision) bool {
		p, err := decoder.ParsePosition(d.Position)
		return err != nil || lsn(s.stored.Load()) > p.LSN
	})
}

// record writes the verdict that ended the session into the row, so that it can be read and decided about, and so that a
// relay which stands by stays out. Where there is no row, or the database is gone, the log and the endpoint say it alone. It gives
// the end of the session: a verdict that comes after a person has decided otherwise is about what does not count any more.
func (s *session) record(b *Blocked) error {
	if errors.Is(b.Err, errUndecided) || s.generation == 0 || s.recorded {
		return b
	}
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	now := time.Now().UTC()
	err := s.ask(ctx, func(ctx context.Context) (err error) {
		conn := s.control
		if conn.IsClosed() { // a statement that was under way when the session ended has taken it along
			fresh, err := dialControl(ctx, &s.cfg.Postgres)
			if err != nil {
				return err
			}
			defer func() { _ = fresh.Close(ctx) }()
			conn = fresh
		}
		s.standing, err = checkpoint.Judge(ctx, conn, s.cfg.Name, s.generation, s.standing, checkpoint.Verdict{
			ID: fmt.Sprintf("%d-%d", s.generation, now.UnixMilli()), Case: b.Verdict, Reason: b.Reason, Advice: b.Advice,
			Options: b.Options, Positions: b.Positions, More: b.More, LSN: b.LSN, Instance: s.cfg.Instance, At: now, Events: s.pendingEvents(),
		})
		return err
	})
	switch {
	case errors.Is(err, checkpoint.ErrDecided):
		return s.redecided()
	case err != nil:
		s.log.Warn().Err(err).Msg("the verdict stands in the log and in the status alone")
	default:
		s.recorded = true
	}
	return b
}

// announce tells a verdict of the sink that the reader has come to, before what came before is delivered: that may take as long as
// Kafka is slow, and a person can decide meanwhile. Any other error it leaves as it is.
func (s *session) announce(err error) error {
	var judged judgedBySink // and no fence, which the end of the session counts
	var blocked *Blocked
	if !errors.As(err, &judged) || !errors.As(s.mendable(s.suspect(err)), &blocked) {
		return err
	}
	s.announced.Store(true)
	if err := s.record(blocked); errors.Is(err, errRedecided) {
		return err
	}
	s.relay.halt(blocked)
	blocked.told = true
	return blocked
}

// settle removes verdict and decision once they have been taken up: a relay takes a decision once. What was decided about an
// event is kept until that has been passed. Before the session is prepared nothing is settled: what was decided is not stored
// yet; nor after it has told a verdict of its own.
func (s *session) settle(ctx context.Context) error {
	if !s.prepared.Load() || s.announced.Load() {
		return nil
	}
	return s.ask(ctx, func(ctx context.Context) error {
		if err := s.keepPassedOver(ctx); err != nil {
			return err
		}
		pending := s.pendingEvents()
		if s.verdict == nil && len(pending) == len(s.events) {
			return nil
		}
		now, err := s.store.Settle(ctx, s.standing, pending)
		switch {
		case errors.Is(err, checkpoint.ErrDecided):
			return s.redecided()
		case err != nil:
			return err
		}
		s.standing, s.verdict, s.decision, s.events = now, nil, nil, pending
		return nil
	})
}
