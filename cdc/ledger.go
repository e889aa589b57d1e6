package cdc

import (
	"context"
	"fmt"
	"slices"

	"github.com/outrider-relay/outrider/checkpoint"
)

// Ledger is what a sink keeps beside the checkpoint, under the session's generation: as soon as another session leads,
// nothing can be written through it. Safe for use by any goroutine.
type Ledger struct {
	s          *session
	row        checkpoint.Row         // as the session before left it
	partitions []checkpoint.Partition // likewise, read after the row was taken
}

// ask is the session's, with what to do about an error of Postgres: the sink it comes to knows nothing of that.
func (l *Ledger) ask(ctx context.Context, f func(context.Context) error) error {
	return advised(l.s.ask(ctx, f), &l.s.cfg.Postgres)
}

// Owner is an error unless the session still owns its slot.
func (l *Ledger) Owner(ctx context.Context) error {
	return l.ask(ctx, func(ctx context.Context) error {
		slot, err := readSlot(ctx, l.s.control, l.s.cfg.Postgres.Slot)
		switch {
		case err != nil:
			return err
		case slot == nil || slot.ActivePID != l.s.repl.pid:
			return fmt.Errorf("%w: slot %s is no longer read by this session", errStandby, l.s.cfg.Postgres.Slot)
		}
		return nil
	})
}

// Cluster is an error where the Kafka cluster of that id is not the one that this relay delivers to.
func (l *Ledger) Cluster(id string) error { return l.s.judgeCluster(l.row, id) }

// Producers are the producer ids that this relay has used.
func (l *Ledger) Producers() []int64 { return slices.Clone(l.row.ProducerIDs) }

// AddProducer adds one, durably.
func (l *Ledger) AddProducer(ctx context.Context, id int64) error {
	return l.ask(ctx, func(ctx context.Context) error { return l.s.store.AddProducerID(ctx, id) })
}

// EachPartition yields the partitions that this relay may have written, and from where on a restart has to look for what it
// wrote. Where a person has accepted that what lies in Kafka does not count any more, that is the present end: -1. After a gap it
// does count: what Kafka holds of the events behind it is not sent again.
func (l *Ledger) EachPartition(yield func(topic string, partition int32, scanFrom int64, owned bool)) {
	forget := l.s.acceptsLossOf("diverged", "kafka lost data") || l.s.accepts(checkpoint.AcceptNewCluster) || l.s.acceptsRival()
	for _, p := range l.partitions {
		if forget {
			p.ScanFrom, p.Owned = -1, false
		}
		yield(p.Topic, p.ID, p.ScanFrom, p.Owned)
	}
}

// Decided yields the events about which a person has decided, by position: each is left out, or becomes a dead letter.
func (l *Ledger) Decided(yield func(position string, deadLetter bool) bool) {
	for _, d := range l.s.pendingEvents() {
		if !yield(d.Position, d.Action == checkpoint.DeadLetterEvent) {
			return
		}
	}
}

// Register makes partitions durable; the slices have an element a partition.
func (l *Ledger) Register(ctx context.Context, topics []string, partitions []int32, scanFrom []int64, owned []bool) error {
	rows := make([]checkpoint.Partition, len(topics))
	for i := range topics {
		rows[i] = checkpoint.Partition{Topic: topics[i], ID: partitions[i], ScanFrom: scanFrom[i], Owned: owned[i]}
	}
	return l.ask(ctx, func(ctx context.Context) error { return l.s.store.Register(ctx, rows) })
}

// Above says whether a transaction's commit LSN lies at or above the checkpoint, so that the stream brings it again, and
// whether this database can have committed it: on the timeline that owns that LSN, below the end of its WAL.
func (l *Ledger) Above(timeline uint32, commit uint64) (above, possible bool) {
	at := lsn(commit)
	return at >= l.row.LSN, l.s.timelines.owner(at) == timeline && at < l.s.facts.walEnd
}

// Complete says that nothing of ours can be in a part of a log that is gone: the session before stopped with everything
// delivered and stored, or a person accepts repeats.
func (l *Ledger) Complete() bool { return l.row.Clean || l.s.accepts(checkpoint.AcceptRepeats) }
