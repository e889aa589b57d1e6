package sink

import "context"

// Ledger is what exactly-once needs to be kept durably beside the checkpoint, under the session's generation. Every
// method that writes fails when another session leads by now. Its owner is the caller; it must be safe for use by any goroutine.
type Ledger interface {
	// Owner is an error unless the session still owns its slot.
	Owner(ctx context.Context) error
	// Cluster is an error where the Kafka cluster of that id is not the one that the relay delivers to: nothing there may be
	// fenced, and what its logs say is about something else.
	Cluster(id string) error
	// Producers are the producer ids that this relay has used.
	Producers() []int64
	// AddProducer adds one, before the first record that carries it.
	AddProducer(ctx context.Context, id int64) error
	// EachPartition yields the registered partitions: from scanFrom on, a partition may hold records whose events lie
	// above the checkpoint; -1 is its present end. owned says that the batch, or marker, at scanFrom is our own.
	EachPartition(yield func(topic string, partition int32, scanFrom int64, owned bool))
	// Register makes partitions durable: new ones before their first record, known ones with a later place to scan from.
	// The slices have an element a partition.
	Register(ctx context.Context, topics []string, partitions []int32, scanFrom []int64, owned []bool) error
	// Above says whether a transaction's commit LSN lies at or above the checkpoint, so that the stream will bring it again,
	// and whether this database can have committed it at all: on the timeline that owns that LSN, below the end of its WAL.
	Above(timeline uint32, commit uint64) (above, possible bool)
	// Complete says that nothing of ours can be in a part of a log that is gone: the session before stopped with everything
	// delivered and stored, or a person accepts repeats.
	Complete() bool
}

// Registration is a partition and where a restart begins to scan it.
type Registration struct {
	Topic     string
	Partition int32
	ScanFrom  int64
	Owned     bool
}
