package cdc

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pglogrepl"

	"github.com/outrider-relay/outrider/checkpoint"
)

// The verdicts: what only a person can judge. A verdict releases the slot, and the relay stays up with the reason.

// judgedBySink is a sink's error that only a person can judge.
type judgedBySink interface {
	error
	Blocked() (verdict, reason, advice string, options []string)
}

// blockedBy is the verdict that an error of the sink asks for. One about a single event has a method At, which gives its position as
// a decision names it; one about several a method Positions, which gives as many as can be shown, and the number of the others.
func (s *session) blockedBy(judged judgedBySink, err error) *Blocked {
	verdict, reason, advice, options := judged.Blocked()
	blocked := &Blocked{Verdict: verdict, Reason: reason, Err: err}
	at := ""
	if event, ok := judged.(interface{ At() string }); ok && event.At() != "" {
		at, blocked.Positions = " "+event.At(), []string{event.At()}
	}
	if several, ok := judged.(interface{ Positions() ([]string, int) }); ok {
		blocked.Positions, blocked.More = several.Positions()
	}
	for i, option := range options {
		options[i] = s.resolve("--" + option + at)
		blocked.Options = append(blocked.Options, checkpoint.Action(option))
	}
	blocked.Advice = advice + ": " + strings.Join(options, ", or ")
	return blocked
}

// judgeSlot decides from what exists, before anything is taken or created. known says that there is a checkpoint, which is of
// another system only where that was accepted: then nothing is asked again because the slot did not come along.
func (s *session) judgeSlot(row *checkpoint.Row, known bool) error {
	pg, f := &s.cfg.Postgres, &s.facts
	switch {
	case f.slot != nil && f.slot.lost() != "":
		return s.slotGone(f.slot.lost())
	case f.slot == nil && known && row.SystemID == f.server.systemID && !s.acceptsLossOf("gap", "diverged"):
		return s.slotGone("it does not exist, though this relay has a checkpoint: it was dropped, or did not follow a failover")
	case f.slot == nil && !known && !pg.Create:
		return findings{{
			"slot " + pg.Slot + " does not exist", "the relay streams from it", "run outrider with postgres.create: true once, or create it: select pg_create_logical_replication_slot('" + pg.Slot + "', 'pgoutput')",
		}}
	case f.publication == nil && (f.slot != nil || known || !pg.Create):
		return missingPublication(pg)
	}
	return nil
}

// slotGone is the verdict on a slot whose WAL cannot be had any more.
func (s *session) slotGone(why string) *Blocked {
	return &Blocked{
		Verdict: "gap",
		Reason:  fmt.Sprintf("slot %s is gone: %s. What was committed after the checkpoint can no longer be read from the WAL", s.cfg.Postgres.Slot, why),
		Advice: fmt.Sprintf("Compare table and topic from the checkpoint on (select lsn from outrider.checkpoint where name = '%s') and publish again what is missing. Then drop the slot if it still exists, and accept the loss: %s",
			s.cfg.Name, s.resolve("--accept-loss")),
		Options: []checkpoint.Action{checkpoint.AcceptLoss},
	}
}

// publicationGone says what it means that the stream has met WAL from a time without the publication. Where there is still
// none, it is to be made. Once it is back, the stream cannot pass that WAL: Postgres decodes it with the catalogue of its time.
func (s *session) publicationGone(err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	publication, lookErr := readPublication(ctx, s.control, s.cfg.Postgres.Publication)
	end, endErr := readWALEnd(ctx, s.control)
	if lookErr != nil || endErr != nil || publication == nil {
		return &preflightError{advised(err, &s.cfg.Postgres)}
	}
	return &Blocked{
		Verdict: "gap",
		Reason:  fmt.Sprintf("publication %s did not exist for a while: what was committed then was not published, and the stream cannot pass it", s.cfg.Postgres.Publication),
		Advice: fmt.Sprintf("The publication is back. Compare table and topic from the checkpoint on (select lsn from outrider.checkpoint where name = '%s') to %s, publish again what is missing, and go on there: %s",
			s.cfg.Name, end, s.resolve("--restart-at "+end.String())),
		Options: []checkpoint.Action{checkpoint.RestartAt}, LSN: end.String(), Err: err,
	}
}

// judgeSystem tells another database system from the one of the checkpoint. It comes before all other verdicts: where the
// database is another one, a slot that is missing there is no gap, and whoever accepts a loss must not accept that unseen.
func (s *session) judgeSystem(row *checkpoint.Row) error {
	if row.SystemID == s.facts.server.systemID || s.accepts(checkpoint.AcceptNewCluster) {
		return nil
	}
	return &Blocked{
		Verdict: "other cluster",
		Reason:  fmt.Sprintf("the checkpoint is of the database system %s, this one is %s: another cluster, a pg_upgrade or a logical restore", row.SystemID, s.facts.server.systemID),
		Advice:  "If this is the right database, publish again what is missing on Kafka, and go on where the slot stands: " + s.resolve("--accept-new-cluster"),
		Options: []checkpoint.Action{checkpoint.AcceptNewCluster},
	}
}

// judge compares the checkpoint with the database that we are connected to, and gives the LSN to start from.
func (s *session) judge(row *checkpoint.Row) error {
	if err := s.judgeSystem(row); err != nil {
		return err
	}
	slot := s.facts.slot
	switch {
	case row.SystemID != s.facts.server.systemID,
		row.LSN > s.facts.walEnd && s.acceptsLossOf("gap", "diverged"),
		slot.Confirmed > row.LSN && s.acceptsLossOf("gap", "diverged"):
		row.SystemID = s.facts.server.systemID
		s.moveTo(row, slot.Confirmed)
		return nil
	case s.accepts(checkpoint.RestartAt):
		return s.restartAt(row)
	case row.LSN > s.facts.walEnd:
		return &Blocked{
			Verdict: "diverged",
			Reason:  fmt.Sprintf("the checkpoint %s lies beyond the end of the server's WAL %s: the database was restored from a backup, or another one took its place", row.LSN, s.facts.walEnd),
			Advice:  "Kafka holds events that this database never committed, or no longer. When that is settled, go on where the slot stands: " + s.resolve("--accept-loss"),
			Options: []checkpoint.Action{checkpoint.AcceptLoss},
		}
	case slot.Confirmed > row.LSN && !s.followedFailover(row):
		return &Blocked{
			Verdict: "gap",
			Reason:  fmt.Sprintf("slot %s was confirmed up to %s by somebody else, the checkpoint is %s: what was committed in between was never relayed", s.cfg.Postgres.Slot, slot.Confirmed, row.LSN),
			Advice:  "Publish again what is missing, and go on where the slot stands: " + s.resolve("--accept-loss"),
			Options: []checkpoint.Action{checkpoint.AcceptLoss},
		}
	case slot.Confirmed > row.LSN:
		s.log.Info().Stringer("checkpoint", row.LSN).Stringer("slot", slot.Confirmed).Msg("the slot came through a failover ahead of the checkpoint: going on from the slot")
		row.LSN = slot.Confirmed
	}
	return nil
}

// followedFailover says that a slot which is ahead of the checkpoint got there by synchronization from the old primary, whose
// relay had confirmed it (PostgreSQL 17 and later).
func (s *session) followedFailover(row *checkpoint.Row) bool {
	return s.facts.slot.Synced && s.timelines.current > row.Timeline
}

// startLSN is where the stream begins: where the slot stands, unless a person chose another position.
func (s *session) startLSN() (lsn, error) {
	if !s.accepts(checkpoint.RestartAt) {
		return 0, nil
	}
	to, err := pglogrepl.ParseLSN(s.decision.LSN)
	if err != nil {
		return 0, fmt.Errorf("the decision names no LSN: %w", err)
	}
	return to, nil
}

// restartAt takes the position that a person chose. Below the slot there is nothing to read any more.
func (s *session) restartAt(row *checkpoint.Row) error {
	to, err := s.startLSN()
	if err != nil {
		return err
	}
	if to < s.facts.slot.Confirmed || to > s.facts.walEnd {
		return &Blocked{
			Verdict: "gap",
			Reason:  fmt.Sprintf("a restart at %s was decided, and the slot streams from %s to %s", to, s.facts.slot.Confirmed, s.facts.walEnd),
			Advice:  "Choose a position in between: " + s.resolve("--restart-at LSN"),
			Options: []checkpoint.Action{checkpoint.RestartAt, checkpoint.AcceptLoss},
		}
	}
	s.moveTo(row, to)
	return nil
}

// moveTo makes the session start where a person decided, which may be below the checkpoint.
func (s *session) moveTo(row *checkpoint.Row, to lsn) {
	row.LSN = to
	s.store.MoveTo(to)
}

// ExactlyOnce is the Config.Delivery under which positions decide what is skipped.
const ExactlyOnce = "exactly-once"

// checkDecoding refuses settings under which a position means another event than it did, unless nothing of the last session
// can be waiting to be recognised.
func (s *session) checkDecoding(row checkpoint.Row) error {
	ours := s.cfg.Postgres.decodeHash()
	if s.cfg.Delivery != ExactlyOnce || row.Delivery != ExactlyOnce || row.DecodeHash == "" || row.DecodeHash == ours || row.Clean {
		return nil
	}
	return findings{{
		"publication or message prefixes have changed since the last session, which did not end cleanly",
		"what it published after its checkpoint could not be recognised any more",
		"start the relay with the settings of before, stop it with SIGTERM (it drains), then change them",
	}}
}

// judgeCluster compares the Kafka cluster with the one that the checkpoint speaks of.
func (s *session) judgeCluster(row checkpoint.Row, cluster string) error {
	if row.KafkaClusterID == "" || row.KafkaClusterID == cluster || s.accepts(checkpoint.AcceptNewCluster) {
		return nil
	}
	return &Blocked{
		Verdict: "other cluster",
		Reason:  fmt.Sprintf("the checkpoint is of the Kafka cluster %s, this one is %s: what was delivered there is not here", row.KafkaClusterID, cluster),
		Advice:  "Correct kafka.brokers; or go on with this cluster from the checkpoint on: " + s.resolve("--accept-new-cluster"),
		Options: []checkpoint.Action{checkpoint.AcceptNewCluster},
	}
}

func (s *session) resolve(flag string) string {
	return "outrider resolve --name " + s.cfg.Name + " " + flag
}
