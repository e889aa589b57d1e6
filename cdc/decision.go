package cdc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/decoder"
)

// errUndecided is the end of an attempt that found a verdict which nobody has decided about.
var errUndecided = errors.New("a verdict stands, and nobody has decided about it")

// heed takes up a decision, and stays out while there is none. Only the first session of a process looks for itself whether
// the verdict still holds: somebody has started it, and may have mended the cause. A relay that has been standing by does
// not: the leader was blocked, and so would it be.
func (s *session) heed(row checkpoint.Row) error {
	verdict, decision, err := row.Pending()
	switch {
	case err != nil || verdict == nil:
		return err
	case decision != nil:
		s.verdict, s.decision = verdict, decision
		s.log.Warn().Str("verdict", verdict.Case).Str("decision", string(decision.Action)).Str("by", decision.By).Msg("a decision is taken up")
		return nil
	case s.relay.attempts > 1 || s.stoodBy:
		return &Blocked{Verdict: verdict.Case, Reason: verdict.Reason, Advice: verdict.Advice, Options: verdict.Options, Err: errUndecided}
	}
	s.verdict = verdict
	return nil
}

// accepts says whether an action was decided.
func (s *session) accepts(a checkpoint.Action) bool {
	return s.decision != nil && s.decision.Action == a
}

// acceptsEvent says whether what was decided is about one event.
func (s *session) acceptsEvent() bool {
	return s.accepts(checkpoint.SkipEvent) || s.accepts(checkpoint.DeadLetterEvent)
}

// record writes the verdict that ended the session into the row, so that it can be read and decided about, and so that a
// relay which stands by stays out. Where there is no row, or the database is gone, the log and the endpoint say it alone.
func (s *session) record(b *Blocked) {
	if errors.Is(b.Err, errUndecided) || s.generation == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	now := time.Now().UTC()
	err := s.ask(ctx, func(ctx context.Context) error {
		conn := s.control
		if conn.IsClosed() { // a statement that was under way when the session ended has taken it along
			fresh, err := dialControl(ctx, &s.cfg.Postgres)
			if err != nil {
				return err
			}
			defer func() { _ = fresh.Close(ctx) }()
			conn = fresh
		}
		return checkpoint.Judge(ctx, conn, s.cfg.Name, s.generation, checkpoint.Verdict{
			ID: fmt.Sprintf("%d-%d", s.generation, now.UnixMilli()), Case: b.Verdict, Reason: b.Reason, Advice: b.Advice,
			Options: b.Options, Instance: s.cfg.Instance, At: now,
		})
	})
	if err != nil {
		s.log.Warn().Err(err).Msg("the verdict stands in the log and in the status alone")
	}
}

// settle removes verdict and decision once what was decided has been done: a relay takes a decision once. An event that it is
// about must have been passed.
func (s *session) settle(ctx context.Context, stored lsn) error {
	if s.verdict == nil || !s.streaming.Load() {
		return nil
	}
	if s.acceptsEvent() {
		if p, err := decoder.ParsePosition(s.decision.Position); err == nil && stored <= p.LSN {
			return nil
		}
	}
	if err := s.ask(ctx, s.store.Settle); err != nil {
		return err
	}
	s.verdict, s.decision = nil, nil
	return nil
}
