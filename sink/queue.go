package sink

import (
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/outrider-relay/outrider/sink/record"
)

// queue is one partition's: strictly first in, first acked. All of it is guarded by Kafka.mu.
//
// Rows are appended to open. A full open batch is closed: it joins batches. The partition's leader sends batches in
// order, up to maxInFlight ahead of the acks. An answer other than an ack stops sending until everything in flight has
// been answered; then the queue goes on from its first unacked batch with the sequence numbers that it had.
type queue struct {
	topic     *topic
	partition int32
	leader    *leader // nil while the partition has none

	open    batch
	batches []*batch

	inFlight   int
	nextSeq    int32
	lastOffset int64 // base offset of the last batch acked in order; -1 before the first
	// proven is set by the first ack of the session. Until then one batch at a time: a leader without memory of this
	// producer takes any first sequence, so a batch could overtake a refused one before it.
	proven  bool
	ackedAt time.Time // when the last ack came
	// ready is set once the partition is registered, where that is asked for: before, nothing may be sent.
	ready bool
	// fresh is set when this session has registered the partition, until its first ack.
	fresh bool
	// note is where a restart may begin to scan once everything up to its number is stored.
	note *note
	// rewind is set by an answer that was no ack, and cleared when nothing is in flight.
	rewind bool
	// refused is the batch that the broker blames on its records; it is divided when nothing is in flight.
	refused *refusal
	// barred is since when, and by which code, the topic has been unknown or forbidden to this queue; zero after an ack.
	barred     time.Time
	barredCode int16
	// retryAt is when sending may go on after failures, of which there were so many in a row.
	retryAt  time.Time
	failures int
	backoff  *backoff.ExponentialBackOff
}

// batch is a record batch on its way: open, closed, in flight, acked.
type batch struct {
	builder  record.Builder // until it is sealed
	wire     record.Batch   // from then on
	first    uint64         // number of its first event, or a smaller one that is unacked too
	oldest   time.Time      // commit time of its first event
	opened   time.Time      // when it was appended
	seq      int32
	offset   int64
	sealed   bool
	inFlight bool
	acked    bool
	unsure   bool // an attempt went wrong after which the broker may have it all the same

	then    []func() // to be called when it is acked
	standIn bool     // it has no records, and keeps the place of dead letters
	letters int      // of which so many are not acked
}

// refusal is a broker's answer that blames records.
type refusal struct {
	batch   *batch
	code    int16
	message string
	record  int // index of the record that the broker named; -1 when it named none
}

// memory is the buffer that the batch holds.
func (b *batch) memory() []byte {
	if b.sealed {
		return b.wire.Wire()
	}
	return b.builder.Memory()
}

func (b *batch) count() int {
	if b.sealed {
		return b.wire.Count()
	}
	return b.builder.Count()
}

// done tells those who wait for the batch's ack.
func (b *batch) done() {
	for _, then := range b.then {
		then()
	}
}

// maxTimestamp is the stamp by which a broker ages its memory of a producer, in ms.
func (b *batch) maxTimestamp() int64 {
	if b.sealed {
		return b.wire.MaxTimestamp()
	}
	return b.builder.MaxTimestamp()
}

func newQueue(t *topic, partition int32) *queue {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 20*time.Millisecond, 2*time.Second
	return &queue{topic: t, partition: partition, lastOffset: -1, backoff: b}
}

func (q *queue) empty() bool { return q.open.count() == 0 && len(q.batches) == 0 }

// oldest is the smallest unacked number; math.MaxUint64 when there is none. Dead letters come out of turn, so every batch
// is asked.
func (q *queue) oldest() uint64 {
	oldest := uint64(math.MaxUint64)
	for _, b := range q.batches {
		oldest = min(oldest, b.first)
	}
	if q.open.count() > 0 {
		oldest = min(oldest, q.open.first)
	}
	return oldest
}

// close ends the open batch: it gets its sequence numbers, and later rows go into a new one.
func (q *queue) close() {
	b := q.open
	b.seq = q.nextSeq
	q.nextSeq = addSequence(q.nextSeq, b.count())
	q.batches = append(q.batches, &b)
	q.open = batch{}
}

// next gives the batch to send now, or nil. Where flush is set an open batch counts too.
func (q *queue) next(now time.Time, flush bool) *batch {
	if q.rewind && q.inFlight == 0 {
		q.rewind = false
		if len(q.batches) > 1 && planted("a queue goes on after a failure") {
			seq := q.batches[0].seq
			q.batches = append(q.batches[1:], q.batches[0])
			q.renumber(seq)
		}
	}
	if !q.ready || q.rewind || q.refused != nil || q.inFlight >= maxInFlight || !q.proven && q.inFlight > 0 || now.Before(q.retryAt) {
		return nil
	}
	// Counted from the first unacked batch on, also over acked ones: a broker forgets a batch after the fifth behind it,
	// and then takes its repetition for a gap.
	for _, b := range q.batches[:min(len(q.batches), maxInFlight)] {
		switch {
		case b.standIn && !b.acked:
			return nil // nothing passes it
		case !b.inFlight && !b.acked:
			return b
		}
	}
	if !flush || q.open.count() == 0 || len(q.batches) >= maxInFlight {
		return nil
	}
	q.close()
	return q.batches[len(q.batches)-1]
}

// renumber gives sequences anew to all batches, from the first one's on. Nothing is in flight, and nothing behind the
// first has been appended by the broker: a refused batch leaves a gap that it does not let pass.
func (q *queue) renumber(seq int32) {
	for _, b := range q.batches {
		b.seq = seq
		seq = addSequence(seq, b.count())
	}
	q.nextSeq = seq
}

// addSequence counts on, as brokers do, from 2^31-1 to 0.
func addSequence(seq int32, records int) int32 {
	return int32((int64(seq) + int64(records)) & math.MaxInt32)
}

// later postpones the queue after a failure.
func (q *queue) later(now time.Time) {
	q.rewind = true
	q.retryAt = now.Add(q.backoff.NextBackOff())
}
