package sink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/record"
	"github.com/outrider-relay/outrider/sink/route"
)

// Kafka delivers the events of one session. A row walks through it like this:
//
//	Append (reader)   router.Route -> topic.pick -> queue.open
//	leader.gather     queue.next -> one request with a batch of each of the broker's partitions
//	leader.answered   ack -> queue.batches shrinks -> Oldest moves on
//
// One lock guards all queues. The reader holds it for a block of rows, a leader while it gathers a request or takes an
// answer; compression, checksums and I/O happen outside it.
type Kafka struct {
	cfg    Config
	router *route.Router // used by the reader alone

	producerID int64 // set by Start, before anything is sent
	epoch      int16
	clusterID  string
	expiry     expiry // likewise: what the brokers know of this producer, and for how long
	fence      *fence // nil: at-least-once

	mu       sync.Mutex
	room     sync.Cond // bytes were released, or the session ends
	buffers  buffers
	records  int // appended and not acked
	topics   map[string]*topic
	leaders  map[int32]*leader
	known    []string            // addresses of the cluster's brokers, as metadata tells them
	fewer    map[string][]string // by topic, the brokers that have told of fewer partitions than it had, one after another
	troubles troubles
	draining bool
	idle     chan struct{}   // closed when draining and nothing is unacked
	err      error           // why the session ends; first one wins
	failed   chan struct{}   // closed when err is set
	refresh  chan struct{}   // asks for metadata
	group    *errgroup.Group // of Run; leaders are started in it
	runCtx   context.Context // of group

	tail *tail  // events that Kafka holds and the stream has not passed; nil when there are none
	next uint64 // number that the next event will have, or less

	now    time.Time // of the block being appended; set by the reader
	behind bool      // the last row was committed behindAfter ago, or more
}

// maxInFlight is how many requests a broker may owe us, and how many batches a partition: brokers remember the last
// five batches of a producer in a partition, so that many may be repeated without being appended twice.
const maxInFlight = 5

// maxRequestBytes bounds one request; brokers refuse more than socket.request.max.bytes, 100 MiB by default.
const maxRequestBytes = 16 << 20

// New checks the settings and makes the sink of one session. Nothing is started or dialled.
func New(cfg Config) (*Kafka, error) {
	cfg.setDefaults()
	if len(cfg.Brokers) == 0 {
		return nil, errors.New("kafka.brokers: no broker is named")
	}
	r, err := route.New(cfg.Name, cfg.Routing, cfg.Log)
	if err != nil {
		return nil, err
	}
	r.MaxTimestampAge, r.HeadersDropped = cfg.MaxTimestampAge, cfg.Stats.HeadersDropped
	k := &Kafka{
		cfg:     cfg,
		router:  r,
		topics:  make(map[string]*topic),
		leaders: make(map[int32]*leader),
		fewer:   make(map[string][]string),
		idle:    make(chan struct{}),
		failed:  make(chan struct{}),
		refresh: make(chan struct{}, 1),
	}
	k.room.L = &k.mu
	k.troubles.log = cfg.Log
	if cfg.Ledger != nil {
		k.fence = newFence(k, cfg.Ledger)
	}
	return k, nil
}

// Run delivers until ctx ends or the session must. Every goroutine and connection of the session is gone when it returns.
func (k *Kafka) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	k.mu.Lock()
	k.group, k.runCtx = group, ctx
	k.mu.Unlock()
	group.Go(func() error { return k.keepMetadata(ctx) })
	if k.fence != nil {
		group.Go(func() error { return k.fence.keep(ctx) })
		group.Go(func() error { return k.fence.keepAlive(ctx) })
	}
	group.Go(func() error {
		select {
		case <-k.failed:
			return k.err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	err := group.Wait()
	k.fail(err) // a reader that waits for room must not wait for ever
	return err
}

// fail ends the session with err, unless it has ended already.
func (k *Kafka) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failLocked(err)
}

func (k *Kafka) failLocked(err error) {
	if k.err != nil {
		return
	}
	k.err = err
	close(k.failed)
	k.room.Broadcast()
}

// Begin starts a block of events.
func (k *Kafka) Begin() {
	k.mu.Lock()
	k.now = time.Now()
}

// End ends it, and lets the leaders send what came.
func (k *Kafka) End() {
	k.wakeLeaders()
	k.mu.Unlock()
}

// wakeLeaders tells each leader that has something to do.
func (k *Kafka) wakeLeaders() {
	for _, l := range k.leaders {
		// While an answer is awaited open batches grow; its coming wakes the leader anyway, as its timer does while it rests.
		if l.full || l.fed && l.inFlight == 0 && !l.resting || k.draining {
			l.fed, l.full = false, false
			l.wakeUp()
		}
	}
}

// Append routes e and copies it into its partition's open batch. It waits while max_in_flight_bytes are used up.
func (k *Kafka) Append(e *decoder.Event, number uint64) (taken bool, err error) {
	if k.err != nil {
		return false, k.err
	}
	k.next = number + 1
	k.behind = k.now.Sub(e.CommitTime) >= behindAfter
	if k.tail != nil {
		// Asked before routing, so that changed routing changes nothing about what was published.
		id, err := k.router.EventID(e)
		if err != nil {
			return false, err
		}
		if k.tail.take(e.Position, id) {
			k.cfg.Stats.skipped.Add(1)
			return false, nil
		}
	}
	routed, err := k.router.Route(e, k.now)
	if err == nil {
		err = k.append(routed, e.CommitTime, number)
	}
	if err == nil {
		return true, nil
	}
	if u := (*route.Unroutable)(nil); errors.As(err, &u) {
		return k.poisoned(e, number, u)
	}
	return false, err
}

// append puts a record where it belongs.
func (k *Kafka) append(routed *route.Routed, commit time.Time, number uint64) error {
	t := k.topics[string(routed.Topic)]
	if t == nil {
		if err := k.router.CheckTopic(routed.Topic); err != nil {
			return err
		}
		t = k.topic(string(routed.Topic))
	}
	if t.deadLetter {
		return &route.Unroutable{Reason: "topic " + t.name + " is outbox.dead_letter.topic, and takes no rows of its own"}
	}
	err := k.place(t, &routed.Record, heldRow{number: number, partition: routed.Partition, commit: commit}, false)
	if err == nil {
		k.records++
	}
	return err
}

// topic gives the topic called name, which may be new.
func (k *Kafka) topic(name string) *topic {
	t := k.topics[name]
	if t == nil {
		t = &topic{name: name, batchBytes: k.cfg.BatchBytes, deadLetter: name == k.cfg.DeadLetter, asked: time.Now()}
		k.topics[name] = t
		k.askRefresh()
	}
	return t
}

// place puts rec into its partition's queue or into the topic's lobby. The sink's lock is given up while it waits for
// room; rows that are counted already are placed by force, and wait for nothing.
func (k *Kafka) place(t *topic, rec *record.Record, row heldRow, force bool) error {
	for {
		q, ok := t.pick(rec.Key, row.partition)
		if !ok {
			return &route.Unroutable{Reason: fmt.Sprintf("partition %d is beyond the %d of topic %s", row.partition, len(t.queues), t.name)}
		}
		if q == nil && k.hold(t, rec, row, force) || q != nil && k.put(q, rec, row, force) {
			return nil
		}
		// Whatever changed meanwhile, the topic's queues included, is looked at again.
		if err := k.waitForRoom(); err != nil {
			return err
		}
		t = k.topic(t.name)
	}
}

// put appends rec to q's open batch, unless there is no room for it.
func (k *Kafka) put(q *queue, rec *record.Record, row heldRow, force bool) bool {
	size := q.open.builder.Size(rec)
	if q.open.count() > 0 && q.open.builder.Len()+size > q.topic.batchBytes {
		q.close()
		size = q.open.builder.Size(rec)
		if q.leader != nil {
			q.leader.full = true
		}
	}
	if !k.grow(&q.open.builder, size, q.topic.batchBytes, force) {
		return false
	}
	if q.open.count() == 0 {
		q.open.first, q.open.oldest, q.open.opened = row.number, row.commit, k.now
	}
	q.open.first = min(q.open.first, row.number) // dead letters come out of turn
	if row.then != nil {
		q.open.then = append(q.open.then, row.then)
	}
	q.open.builder.Append(rec)
	if q.leader != nil {
		q.leader.fed = true
	} else {
		k.askRefresh()
	}
	return true
}

// hold appends rec to the topic's lobby, unless there is no room for it.
func (k *Kafka) hold(t *topic, rec *record.Record, row heldRow, force bool) bool {
	if len(t.lobby) == 0 {
		k.askRefresh() // who waits in the lobby waits for metadata
	}
	if len(t.lobby) == 0 || t.lobby[len(t.lobby)-1].builder.Len()+t.lobby[len(t.lobby)-1].builder.Size(rec) > t.batchBytes {
		t.lobby = append(t.lobby, heldBatch{})
	}
	h := &t.lobby[len(t.lobby)-1]
	if !k.grow(&h.builder, h.builder.Size(rec), t.batchBytes, force) {
		if len(h.rows) == 0 {
			t.lobby = t.lobby[:len(t.lobby)-1]
		}
		return false
	}
	if len(h.rows) == 0 {
		h.first = row.number
	}
	h.first = min(h.first, row.number)
	h.builder.Append(rec)
	h.rows = append(h.rows, row)
	t.asked = k.now
	return true
}

// grow makes room in b for size more bytes, by doubling. It refuses when that would exceed the bound on bytes in
// flight; but what is larger than the whole bound gets in when there is nothing else.
func (k *Kafka) grow(b *record.Builder, size, batchBytes int, force bool) bool {
	need := b.Len() + size
	if need <= b.Cap() {
		return true
	}
	want := max(need, min(2*b.Cap(), batchBytes))
	if added := int64(sizeFor(want)); !force && k.buffers.inUse > 0 && k.buffers.inUse-int64(b.Cap())+added > k.cfg.MaxInFlightBytes {
		return false
	}
	k.buffers.put(b.Move(k.buffers.get(want)))
	return true
}

// waitForRoom gives the lock up until bytes are released. Everything open is on its way meanwhile: leaders send as soon
// as nothing of theirs is in flight.
func (k *Kafka) waitForRoom() error {
	k.wakeLeaders()
	if k.err == nil {
		k.room.Wait()
	}
	k.now = time.Now()
	return k.err
}

// release takes the memory of a delivered batch back.
func (k *Kafka) release(b *batch) {
	k.records -= b.count()
	k.buffers.put(b.memory())
	k.room.Signal()
	k.checkIdle()
}

func (k *Kafka) checkIdle() {
	if k.draining && k.records == 0 {
		select {
		case <-k.idle:
		default:
			close(k.idle)
		}
	}
}

// Oldest is the smallest number appended and not acked; math.MaxUint64 when everything is.
func (k *Kafka) Oldest() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	oldest := uint64(math.MaxUint64)
	for _, t := range k.topics {
		oldest = min(oldest, t.oldest())
	}
	return oldest
}

// InFlight is what has been appended and not acked: records, and the bytes of memory that hold them.
func (k *Kafka) InFlight() (records int, bytes int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.records, k.buffers.inUse
}

// Trouble says what keeps events from being delivered just now; empty when nothing does.
func (k *Kafka) Trouble() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.troubles.worst()
}

// Drain sends what is open without lingering and waits until everything is acked. The reader has stopped.
func (k *Kafka) Drain(ctx context.Context) error {
	k.mu.Lock()
	k.draining = true
	k.checkIdle()
	k.wakeLeaders()
	k.mu.Unlock()
	select {
	case <-k.idle:
		return nil
	case <-k.failed:
		return k.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
