package sink

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/protocol/produce"
)

// settle takes a broker's answer for one batch. Kafka.mu is held.
func (k *Kafka) settle(p parcel, a *produce.ResponsePartition, now time.Time) {
	q, b := p.queue, p.batch
	class := classify(a.ErrorCode)
	if class != classNone && class != classDuplicate {
		k.cfg.Stats.retried(strconv.Itoa(int(a.ErrorCode)))
	}
	switch class {
	case classNone, classDuplicate:
		q.ackedAt = now
		k.acked(q, b, a.BaseOffset)
	case classMetadata:
		k.askRefresh()
		b.unsure = true // a leader may have appended it, and lost its office before the others had it
		k.postpone(q, errorText(a), now)
	case classTopic:
		k.askRefresh()
		k.postpone(q, errorText(a), now)
		q.retryAt = now.Add(topicRetry)
		if q.barredCode = a.ErrorCode; q.barred.IsZero() {
			q.barred = now
		}
	case classRetry:
		b.unsure = true
		k.postpone(q, errorText(a), now)
	case classSequence:
		if !q.rewind && q.refused == nil && q.batches[0] == b {
			k.failLocked(fmt.Errorf("%s on the first unacked batch of %s: whether it was written cannot be known; the session starts over", errorText(a), q))
			return
		}
		q.rewind = true // the batch before it was not taken
	case classRecord:
		k.refuse(q, b, a)
	case classFenced:
		k.failLocked(k.fence.fenced(fmt.Errorf("produce to %s: %w", q, &answerError{a.ErrorCode, a.ErrorMessage})))
	default:
		k.failLocked(fmt.Errorf("produce to %s: %w", q, &answerError{a.ErrorCode, a.ErrorMessage}))
	}
}

// topicRetry is the pace at which a topic that is unknown or forbidden is tried again: somebody has to mend it.
const topicRetry = 2 * time.Second

// acked marks b as delivered.
func (k *Kafka) acked(q *queue, b *batch, offset int64) {
	b.acked, b.offset = true, offset
	q.proven = true
	q.backoff.Reset()
	q.failures = 0
	q.retryAt, q.barred = time.Time{}, time.Time{}
	k.troubles.clear(q.String())
	failpoint("batch acked")
	k.letGo(q)
}

// letGo lets go of what is delivered in order.
func (k *Kafka) letGo(q *queue) {
	for len(q.batches) > 0 && q.batches[0].acked {
		b := q.batches[0]
		if b.standIn {
			q.batches = q.batches[1:]
			continue
		}
		switch {
		case b.offset < 0: // a broker that says "duplicate" may not say where
			q.fresh = false // the next one is not the first
		case b.offset <= q.lastOffset:
			k.failLocked(k.shrunk(q, b.offset))
			return
		default:
			q.lastOffset = b.offset
			k.annotate(q, b.offset)
		}
		q.batches[0] = nil
		q.batches = q.batches[1:]
		k.cfg.Stats.acked(q.topic.name, b.count(), b.wire.Len(), b.oldest)
		k.release(b)
		b.done()
		failpoint("batch let go")
	}
	k.regrow(q.topic)
}

// shrunk is what to say of a partition whose offsets did not grow: the log before is gone. With exactly-once only a person
// can judge what that means; otherwise the session starts over and sends what is not stored.
func (k *Kafka) shrunk(q *queue, offset int64) error {
	how := fmt.Sprintf("it took a batch at offset %d after one at %d", offset, q.lastOffset)
	lost := lostData(Registration{Topic: q.topic.name, Partition: q.partition}, how)
	if k.fence == nil {
		return errors.New(lost.Error())
	}
	return lost
}

// postpone sends the queue's unacked batches again, later. A queue that fails more than a moment is in trouble.
func (k *Kafka) postpone(q *queue, why string, now time.Time) {
	q.later(now)
	if q.failures++; q.failures > 2 {
		k.troubles.set(q.String(), why+"; retried")
	}
}

// errorText is a broker's answer in words.
func errorText(a *produce.ResponsePartition) string {
	return (&answerError{a.ErrorCode, a.ErrorMessage}).Error()
}

// answerError is an error code that ended something.
type answerError struct {
	code    int16
	message string
}

func (e *answerError) Error() string {
	text := errorName(e.code)
	if e.message != "" {
		text += " (" + e.message + ")"
	}
	return text
}

func (q *queue) String() string { return q.topic.name + "/" + strconv.Itoa(int(q.partition)) }
