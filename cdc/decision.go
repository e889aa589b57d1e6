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

// errUndecided is the end of an attempt that found a verdict which nobody has decided about.
var errUndecided = errors.New("a verdict stands, and nobody has decided about it")

// heed takes up a decision, and stays out while there is none. Only the first session of a process looks for itself whether
// the verdict still holds: somebody has started it, and may have mended the cause. A relay that has been standing by does
// not: the leader was blocked, and so would it be.
func (s *session) heed(row checkpoint.Row) error {
	verdict, decision, err := row.Pending()
	if err == nil {
		s.events, err = row.Events()
	}
	switch {
	case err != nil || verdict == nil:
		return err
	case decision != nil:
		s.verdict, s.decision = verdict, decision
		if s.accepts(checkpoint.SkipEvent) || s.accepts(checkpoint.DeadLetterEvent) {
			s.events = append(s.events, *decision)
		}
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

// pendingEvents are the decisions about single events that have not been passed yet.
func (s *session) pendingEvents() []checkpoint.Decision {
	return slices.DeleteFunc(slices.Clone(s.events), func(d checkpoint.Decision) bool {
		p, err := decoder.ParsePosition(d.Position)
		return err != nil || lsn(s.stored.Load()) > p.LSN
	})
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
			Options: b.Options, Instance: s.cfg.Instance, At: now, Events: s.pendingEvents(),
		})
	})
	if err != nil {
		s.log.Warn().Err(err).Msg("the verdict stands in the log and in the status alone")
	}
}

// settle removes verdict and decision once they have been taken up: a relay takes a decision once. What was decided about an
// event is kept until that has been passed. Before the session is prepared nothing is settled: what was decided is not stored yet.
func (s *session) settle(ctx context.Context) error {
	if !s.prepared.Load() {
		return nil
	}
	return s.ask(ctx, func(ctx context.Context) error {
		pending := s.pendingEvents()
		if s.verdict == nil && len(pending) == len(s.events) {
			return nil
		}
		err := s.store.Settle(ctx, pending)
		if err == nil {
			s.verdict, s.decision, s.events = nil, nil, pending
		}
		return err
	})
}
