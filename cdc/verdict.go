package cdc

import (
	"fmt"

	"github.com/outrider-relay/outrider/checkpoint"
)

// The verdicts: what only a person can judge. A verdict releases the slot, and the relay stays up with the reason.

// judgeSlot decides from what exists, before anything is taken or created.
func (s *session) judgeSlot(known bool) error {
	pg, f := &s.cfg.Postgres, &s.facts
	switch {
	case f.slot != nil && f.slot.lost() != "":
		return s.slotGone(f.slot.lost())
	case f.slot == nil && known:
		return s.slotGone("it does not exist, though this relay has a checkpoint: it was dropped, or did not follow a failover")
	case f.slot == nil && !pg.Create:
		return findings{{
			"slot " + pg.Slot + " does not exist", "the relay streams from it", "run outrider with postgres.create: true once, or create it: select pg_create_logical_replication_slot('" + pg.Slot + "', 'pgoutput')",
		}}
	case f.publication == nil && (f.slot != nil || !pg.Create):
		return missingPublication(pg)
	}
	return nil
}

// slotGone is the verdict on a slot whose WAL cannot be had any more.
func (s *session) slotGone(why string) *Blocked {
	return &Blocked{
		Verdict: "gap",
		Reason:  fmt.Sprintf("slot %s is gone: %s. What was committed after the checkpoint can no longer be read from the WAL", s.cfg.Postgres.Slot, why),
		Advice: fmt.Sprintf("compare table and topic from the checkpoint on (select lsn from outrider.checkpoint where name = '%s'), publish again what is missing, then drop the slot and delete that row, and start the relay: it begins anew",
			s.cfg.Name),
	}
}

// judge compares the checkpoint with the database that we are connected to.
func (s *session) judge(row checkpoint.Row) error {
	slot := s.facts.slot
	switch {
	case row.SystemID != s.facts.server.systemID:
		return &Blocked{
			Verdict: "other cluster",
			Reason:  fmt.Sprintf("the checkpoint is of the database system %s, this one is %s: another cluster, a pg_upgrade or a logical restore", row.SystemID, s.facts.server.systemID),
			Advice:  "if this is the right database, delete the row of this relay from outrider.checkpoint and drop the slot, and start it: it begins anew",
		}
	case row.LSN > s.facts.walEnd:
		return &Blocked{
			Verdict: "diverged",
			Reason:  fmt.Sprintf("the checkpoint %s lies beyond the end of the server's WAL %s: the database was restored from a backup, or another one took its place", row.LSN, s.facts.walEnd),
			Advice:  "Kafka holds events that this database never committed, or no longer. When that is settled, delete the row of this relay from outrider.checkpoint and drop the slot, and start it: it begins anew",
		}
	case slot.Confirmed > row.LSN && !slot.Synced:
		return &Blocked{
			Verdict: "gap",
			Reason:  fmt.Sprintf("slot %s was confirmed up to %s by somebody else, the checkpoint is %s: what was committed in between was never relayed", s.cfg.Postgres.Slot, slot.Confirmed, row.LSN),
			Advice:  fmt.Sprintf("publish again what is missing, then accept the gap: update outrider.checkpoint set lsn = '%s' where name = '%s'; and start the relay", slot.Confirmed, s.cfg.Name),
		}
	}
	return nil
}

// judgeCluster compares the Kafka cluster with the one that the checkpoint speaks of.
func (s *session) judgeCluster(row checkpoint.Row, cluster string) error {
	if row.KafkaClusterID == "" || row.KafkaClusterID == cluster {
		return nil
	}
	return &Blocked{
		Verdict: "other cluster",
		Reason:  fmt.Sprintf("the checkpoint is of the Kafka cluster %s, this one is %s: what was delivered there is not here", row.KafkaClusterID, cluster),
		Advice:  fmt.Sprintf("correct kafka.brokers; or, to go on with this cluster from the checkpoint on, update outrider.checkpoint set kafka_cluster_id = null where name = '%s'; and start the relay", s.cfg.Name),
	}
}
