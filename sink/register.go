package sink

import (
	"context"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/broker"
)

// note says that once every event below number is stored, all records that a restart has to look for lie at offset or
// above: number is what the next event got, or more, when everything that was in the log at offset or below it was known.
type note struct {
	number uint64
	offset int64
}

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

// notesInterval is how often places to scan from are written. They may lag: that costs a restart the reading of what was
// published in that time, and a takeover that reads for long is not one of two seconds. A constant, but for failpoint_on.go.
var notesInterval = 2 * time.Second

// firstNotes is how often a session looks whether there are any to write, until it has written some: sessions that end one
// soon after another must not leave more and more to scan to the next.
const firstNotes = 100 * time.Millisecond

// start takes the producer, fences and scans.
func (f *fence) start(ctx context.Context) error {
	if err := f.take(ctx); err != nil {
		return err
	}
	began := time.Now()
	tail, err := f.scan(ctx)
	if err != nil {
		return err
	}
	failpoint("scan finished")
	for _, p := range f.marked {
		f.enlist(p)
	}
	f.k.cfg.Log.Info().Int("partitions", len(f.registered)).Int("transactions_in_tail", len(tail.transactions)).Dur("took", time.Since(began)).
		Int64("producer_id", f.k.producerID).Int16("epoch", f.k.epoch).Msg("fenced and scanned")
	if !tail.empty() {
		f.k.tail = tail
		return nil
	}
	// Nothing above the checkpoint lies below the markers: the next start may begin there.
	for _, p := range f.marked {
		if p.marker >= 0 {
			f.notes[place{p.Topic, p.Partition}] = p.marker
		}
	}
	_, err = f.writeNotes(ctx)
	return err
}

// enlist takes a partition up among those that are registered.
func (f *fence) enlist(p *scanned) {
	f.registered[place{p.Topic, p.Partition}] = p
	if p.ScanFrom != forgotten || p.marker >= 0 {
		f.counts[p.Topic] = max(f.counts[p.Topic], p.Partition+1)
	}
}

// admit lets a new queue send if its partition is registered, and asks for its registration otherwise. Kafka.mu is held.
func (f *fence) admit(q *queue) {
	if p := f.registered[place{q.topic.name, q.partition}]; p != nil {
		q.ready, q.proven = true, p.marker >= 0
		return
	}
	f.waiting = append(f.waiting, q)
	f.wakeUp()
}

func (f *fence) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// keep registers partitions as they come up, and writes where a restart may begin to scan.
func (f *fence) keep(ctx context.Context) error {
	notes := time.NewTicker(min(firstNotes, notesInterval))
	defer notes.Stop()
	pace := backoff.ExponentialBackOff{InitialInterval: 4 * metadataMinAge, RandomizationFactor: 0.5, Multiplier: 1.5, MaxInterval: topicRetry}
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		var left bool
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-notes.C:
			some, err := f.writeNotes(ctx)
			if err != nil {
				return err
			}
			if some {
				notes.Reset(notesInterval)
			}
			continue
		case <-f.wake:
			left, err = f.register(ctx)
		case <-again.C:
			left, err = f.register(ctx)
		}
		switch {
		case err != nil:
			return err
		case left: // a leader is away, or a right is missing
			again.Reset(pace.NextBackOff())
		default:
			pace.Reset()
		}
	}
}

// register makes waiting partitions durable, each with its present end, after a read there has proved the right to read
// it: a restart must be able to scan what this session writes. Those that cannot be registered yet are left.
func (f *fence) register(ctx context.Context) (left bool, err error) {
	f.k.mu.Lock()
	waiting := f.waiting
	f.waiting = nil
	f.k.mu.Unlock()
	var topics []string
	for _, q := range waiting {
		if !slices.Contains(topics, q.topic.name) {
			topics = append(topics, q.topic.name)
		}
	}
	if len(topics) == 0 {
		return false, nil
	}
	var cluster *metadata.Response
	err = f.k.onAnyBroker(ctx, func(error) bool { return false }, func(conn *broker.Conn) (err error) {
		cluster, err = describe(ctx, conn, topics)
		return err
	})
	if err != nil {
		return false, err
	}
	ends, refused := f.ends(ctx, cluster, waiting)
	failpoint("registration begins")
	if err := f.enter(ctx, waiting, ends); err != nil {
		return false, err
	}
	failpoint("registered")
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	for _, q := range waiting {
		end, known := ends[place{q.topic.name, q.partition}]
		if !known {
			if f.k.topics[q.topic.name] == q.topic { // else it was forgotten
				f.waiting = append(f.waiting, q)
			}
			continue
		}
		f.enlist(&scanned{Registration: Registration{q.topic.name, q.partition, end, false}, next: end, marker: -1})
		q.ready, q.fresh, q.barred, q.failures = true, true, time.Time{}, 0
		f.k.troubles.clear(q.String())
		if q.leader != nil {
			q.leader.wakeUp()
		}
	}
	f.judgeRefused(waiting, refused)
	return len(f.waiting) > 0, nil
}

// enter writes the partitions whose ends are known.
func (f *fence) enter(ctx context.Context, queues []*queue, ends map[place]int64) error {
	var topics []string
	var partitions []int32
	var offsets []int64
	for _, q := range queues {
		if end, known := ends[place{q.topic.name, q.partition}]; known {
			topics, partitions, offsets = append(topics, q.topic.name), append(partitions, q.partition), append(offsets, end)
		}
	}
	if len(topics) == 0 {
		return nil
	}
	return f.ledger.Register(ctx, topics, partitions, offsets, make([]bool, len(topics)))
}

// annotate notes, at an ack, from where a restart would have to scan the partition. While the tail is not empty, events
// above the checkpoint may lie anywhere in the log. Nothing of ours lies below the first batch of a fresh partition: from its
// ack on it is known to be ours, however far the checkpoint lags. Kafka.mu is held.
func (k *Kafka) annotate(q *queue, offset int64) {
	switch {
	case k.fence == nil:
	case q.fresh:
		q.fresh = false
		k.fence.notes[place{q.topic.name, q.partition}] = offset
	case k.tail == nil && q.note == nil:
		q.note = &note{k.next, offset}
	}
}

// Passed tells that the stream has brought all of a transaction, and that number is the next event's. The tail must hold
// nothing of it any more.
func (k *Kafka) Passed(p decoder.Position, number uint64) error {
	if k.tail == nil {
		return nil
	}
	if err := k.tail.pass(p); err != nil {
		return err
	}
	if !k.tail.empty() {
		return nil
	}
	failpoint("tail met")
	k.tail = nil
	k.cfg.Log.Info().Stringer("at", p).Msg("everything that Kafka held above the checkpoint has been met again")
	for _, p := range k.fence.marked {
		if p.marker >= 0 {
			p.note = &note{number, p.marker}
		}
	}
	return nil
}

// Met says that the stream has passed all that Kafka held above the checkpoint when the session began.
func (k *Kafka) Met() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tail == nil
}

// Stored tells that everything below the event number next is stored: notes up to there may be written.
func (k *Kafka) Stored(next uint64) {
	if k.fence == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fence.stored = next
	k.fence.collect()
}

// collect takes the notes that have become due. Too early a place costs reading; one that is taken before what lies below
// it is stored costs exactness. Kafka.mu is held.
func (f *fence) collect() {
	for at, p := range f.registered {
		f.due(at, &p.note)
	}
	for _, t := range f.k.topics {
		for _, q := range t.queues {
			f.due(place{t.name, q.partition}, &q.note)
		}
	}
}

// due takes one of them. A partition may have two, from an ack and from a marker.
func (f *fence) due(at place, n **note) {
	if *n == nil || (*n).number > f.stored {
		return
	}
	if known, ok := f.notes[at]; !ok || known < (*n).offset {
		f.notes[at] = (*n).offset
	}
	*n = nil
}

// writeNotes makes the places to scan from durable. It tells whether there were any.
func (f *fence) writeNotes(ctx context.Context) (some bool, err error) {
	f.k.mu.Lock()
	var topics []string
	var partitions []int32
	var offsets []int64
	var owned []bool
	for at, offset := range f.notes {
		topics, partitions, offsets, owned = append(topics, at.topic), append(partitions, at.partition), append(offsets, offset), append(owned, true)
	}
	clear(f.notes)
	f.k.mu.Unlock()
	if len(topics) == 0 {
		return false, nil
	}
	failpoint("notes due")
	err = f.ledger.Register(ctx, topics, partitions, offsets, owned)
	if err == nil {
		failpoint("notes written")
	}
	return true, err
}
