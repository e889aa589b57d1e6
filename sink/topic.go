package sink

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/outrider-relay/outrider/sink/record"
)

// topic is one topic's queues. All of it is guarded by Kafka.mu.
type topic struct {
	name   string
	queues []*queue // by partition; empty until the metadata is known
	// lobby holds rows that have no partition yet, in order: the topic's metadata is unknown, or its partition count
	// has grown and the old partitions are to run empty first, so that no key overtakes itself.
	lobby []heldBatch
	grown int // the new partition count, while the old queues run empty; else 0
	// batchBytes is what a batch may have here; it shrinks when the broker refuses batches as too large.
	batchBytes int
	sticky     int32     // partition of rows without a key, until its batch is closed
	trouble    time.Time // since when it has been unknown or forbidden; zero when it is neither
	asked      time.Time // when a row last had to wait in its lobby
	refused    string    // why it could not be created when that was tried last
	deadLetter bool      // it is the topic of the dead letters, and no row is routed to it
	letters    int       // rows of its lobby that became dead letters and are not acked: no later row passes them
}

// heldBatch is a batch in the lobby: with what its rows need to be queued.
type heldBatch struct {
	builder record.Builder
	rows    []heldRow
	first   uint64 // the smallest of their numbers
}

// heldRow is what a record's bytes do not say of it.
type heldRow struct {
	number    uint64
	partition int32 // -1: by the key
	commit    time.Time
	then      func() // to be called when it is acked; nil for all but dead letters
}

// pick gives the queue for a row, or nil for the lobby. ok is false for a partition that the topic does not have.
func (t *topic) pick(key []byte, partition int32) (q *queue, ok bool) {
	n := int32(len(t.queues))
	switch {
	case !t.usable():
		return nil, true
	case partition >= n:
		return nil, false
	case partition >= 0:
		return t.queues[partition], true
	case key != nil:
		return t.queues[partitionOf(key, n)], true
	}
	if q := t.queues[t.sticky%n]; q.open.count() > 0 {
		return q, true
	}
	// Its batch was closed: on to another partition, as Java's client spreads rows without a key.
	t.sticky = rand.Int32N(n)
	return t.queues[t.sticky], true
}

// usable says whether rows may go into the queues; else they wait in the lobby.
func (t *topic) usable() bool { return len(t.queues) > 0 && t.grown == 0 && t.letters == 0 }

// oldest is the smallest number in any queue or in the lobby.
func (t *topic) oldest() uint64 {
	oldest := uint64(math.MaxUint64)
	for i := range t.lobby {
		oldest = min(oldest, t.lobby[i].first)
	}
	for _, q := range t.queues {
		oldest = min(oldest, q.oldest())
	}
	return oldest
}

// idle says that nothing waits for the topic.
func (t *topic) idle() bool { return len(t.lobby) == 0 && t.letters == 0 && t.drained() }

// written says that a batch was made for one of its partitions: brokers may know sequence numbers of it.
func (t *topic) written() bool {
	return slices.ContainsFunc(t.queues, func(q *queue) bool { return q.nextSeq > 0 || q.lastOffset >= 0 })
}

// drained says whether every queue has run empty.
func (t *topic) drained() bool {
	for _, q := range t.queues {
		if !q.empty() {
			return false
		}
	}
	return true
}
