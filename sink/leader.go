package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"

	"github.com/outrider-relay/outrider/sink/broker"
)

// leader sends to one broker: the batches of all partitions that it leads, up to maxInFlight requests ahead.
type leader struct {
	k  *Kafka
	id int32

	wake chan struct{} // something to send may have come up

	// Guarded by Kafka.mu.
	addr       string
	queues     []*queue
	from       int  // where gather begins, so that a full request starves nobody
	fed, full  bool // since the last wake-up rows were appended, batches were closed
	inFlight   int  // requests
	mutedUntil time.Time
	emptiedAt  time.Time // when open batches were last taken along
	resting    bool      // open batches wait for their time, which the timer knows
}

func (l *leader) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *leader) subject() string { return "broker " + strconv.Itoa(int(l.id)) }

// run keeps a connection to the broker and sends over it, until ctx ends.
func (l *leader) run(ctx context.Context) error {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 50*time.Millisecond, 2*time.Second
	for ctx.Err() == nil {
		addr, needed := l.target()
		if !needed { // it leads nothing of ours, so whether it lives is no concern
			l.k.clearTrouble(l.subject())
			select {
			case <-ctx.Done():
			case <-l.wake:
			}
			continue
		}
		conn, err := broker.Dial(ctx, addr, &l.k.cfg.Conn)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			l.k.setTrouble(l.subject(), err.Error()+"; retried")
			l.k.askRefresh() // another broker may lead by now
			pause(ctx, retry.NextBackOff())
			continue
		}
		l.k.clearTrouble(l.subject())
		dialled := time.Now()
		l.serve(ctx, conn)
		_ = conn.Close() // answers every request that is still in flight with an error
		l.k.askRefresh()
		if time.Since(dialled) > retry.MaxInterval {
			retry.Reset()
		}
		pause(ctx, retry.NextBackOff()) // a broker that takes connections only to end them must not be dialled without rest
	}
	return ctx.Err()
}

// target is where the broker is to be found, and whether any partition needs it.
func (l *leader) target() (addr string, needed bool) {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	return l.addr, len(l.queues) > 0
}

// serve sends over conn until it ends, or is to be replaced and owes nothing more.
func (l *leader) serve(ctx context.Context, conn *broker.Conn) {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // a write to a broker that reads no more heeds no context
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		retiring := !conn.RetireAt().IsZero() && time.Now().After(conn.RetireAt())
		wait := idlePoll // while it retires, only answers matter, and they wake it
		for sent := !retiring; sent; {
			sent, wait = l.send(conn)
		}
		if retiring && l.owed() == 0 {
			return
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-conn.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
	}
}

func (l *leader) owed() int {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	return l.inFlight
}

// parcel is a batch on its way in a request.
type parcel struct {
	queue *queue
	batch *batch
}

// send gathers one request and sends it. sent is false when there is nothing to send; wait is then the time after which
// there may be something even if nobody says so.
func (l *leader) send(conn *broker.Conn) (sent bool, wait time.Duration) {
	parcels, wait := l.gather(time.Now())
	if len(parcels) == 0 {
		return false, wait
	}
	for _, p := range parcels {
		if err := l.k.seal(p.batch); err != nil {
			l.k.fail(fmt.Errorf("%s/%d: %w", p.queue.topic.name, p.queue.partition, err))
			return false, wait
		}
	}
	failpoint("request sealed")
	l.k.cfg.Stats.requested(l.id)
	conn.Send(l.request(parcels), func(answer protocol.Message, err error) { l.answered(parcels, answer, err) })
	failpoint("request sent")
	return true, 0
}

// seal compresses and numbers a batch. It is in flight by now, so nobody else touches it.
func (k *Kafka) seal(b *batch) error {
	if !b.sealed {
		wire, err := b.builder.Seal(k.cfg.Compression)
		if err != nil {
			return err
		}
		k.mu.Lock()
		b.wire, b.sealed = wire, true
		k.mu.Unlock()
	}
	b.wire.Stamp(k.producerID, k.epoch, b.seq)
	return nil
}

const (
	// behindAfter is the age, from its commit on, at which a row says that the relay works off a backlog. Where the clocks of
	// relay and database differ by as much, it is wrong about that, which costs requestDistance or the use of it.
	behindAfter = 100 * time.Millisecond
	// requestDistance is what requests with open batches then keep between each other. What a request costs the broker, and
	// us, hardly depends on what is in it, and a row that is late already does not mind. Kafka's own producer waits as long,
	// always (linger.ms, KIP-1030).
	requestDistance = 5 * time.Millisecond
)

// idlePoll is how long a leader sleeps when it has nothing to look forward to.
const idlePoll = time.Minute

// gather takes a batch of each partition that may send one. Closed batches always go; open ones when nothing is in
// flight, so that batches grow by themselves while an answer is awaited, and while the relay is behind not too soon.
func (l *leader) gather(now time.Time) (parcels []parcel, wait time.Duration) {
	k := l.k
	k.mu.Lock()
	defer k.mu.Unlock()
	wait = idlePoll
	if k.err != nil || l.inFlight >= maxInFlight {
		return nil, wait
	}
	if muted := l.mutedUntil.Sub(now); muted > 0 {
		return nil, muted
	}
	hurry := k.draining || k.buffers.inUse >= k.cfg.MaxInFlightBytes/2
	rest := requestDistance - now.Sub(l.emptiedAt)
	l.resting = k.behind && l.inFlight == 0 && rest > 0 && !hurry
	if l.resting {
		wait = rest
	}
	open := l.inFlight == 0 && !l.resting
	size := 0
	for i := range l.queues {
		q := l.queues[(l.from+i)%len(l.queues)]
		if q.open.count() == 0 && len(q.batches) == 0 {
			continue
		}
		if later := q.retryAt.Sub(now); later > 0 {
			wait = min(wait, later)
			continue
		}
		flush := open
		if flush && k.cfg.Linger > 0 && !hurry {
			if later := k.cfg.Linger - now.Sub(q.open.opened); later > 0 {
				wait, flush = min(wait, later), false
			}
		}
		b := q.next(now, flush)
		if b == nil {
			continue
		}
		if size += len(b.memory()); size > maxRequestBytes && len(parcels) > 0 {
			l.from = (l.from + i) % len(l.queues)
			break
		}
		if age := now.Sub(time.UnixMilli(b.maxTimestamp())); age > 2*k.cfg.MaxTimestampAge {
			k.failLocked(fmt.Errorf("a batch of %s/%d has waited too long (its records are stamped %s ago, and a broker may have forgotten this producer); the session starts over and stamps them anew", q.topic.name, q.partition, age.Round(time.Second)))
			return nil, wait
		}
		b.inFlight = true
		q.inFlight++
		parcels = append(parcels, parcel{q, b})
	}
	if len(parcels) > 0 {
		l.inFlight++
		if open {
			l.emptiedAt = now
		}
	}
	return parcels, wait
}

// request builds a produce request: acks of all in-sync replicas, a batch a partition.
func (l *leader) request(parcels []parcel) *rawproduce.Request {
	req := &rawproduce.Request{Acks: -1, Timeout: int32(l.k.cfg.Conn.Timeout.Milliseconds() / 2)}
	index := make(map[*topic]int, 1)
	for _, p := range parcels {
		i, known := index[p.queue.topic]
		if !known {
			i = len(req.Topics)
			index[p.queue.topic] = i
			req.Topics = append(req.Topics, rawproduce.RequestTopic{Topic: p.queue.topic.name})
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rawproduce.RequestPartition{
			Partition: p.queue.partition,
			RecordSet: protocol.RawRecordSet{Reader: bytes.NewReader(p.batch.wire.Wire())},
		})
	}
	return req
}

// errUnanswered stands for a partition that a broker's answer does not mention.
var errUnanswered = errors.New("the broker's answer leaves a partition out")

// answered takes the answer to a request, or the error that ended the connection before it came.
func (l *leader) answered(parcels []parcel, answer protocol.Message, err error) {
	failpoint("request answered")
	k := l.k
	k.mu.Lock()
	defer k.mu.Unlock()
	defer l.wakeUp()
	l.inFlight--
	now := time.Now()
	res, _ := answer.(*produce.Response)
	if res != nil && res.ThrottleTimeMs > 0 {
		l.mutedUntil = now.Add(time.Duration(res.ThrottleTimeMs) * time.Millisecond)
	}
	for _, p := range parcels {
		q := p.queue
		p.batch.inFlight = false
		q.inFlight--
		part := partitionAnswer(res, q)
		switch {
		case err == nil && part == nil:
			k.failLocked(fmt.Errorf("%s, %s: %w", l.subject(), q, errUnanswered))
		case err != nil && broker.KindOf(err) == broker.KindSettings:
			k.failLocked(fmt.Errorf("%s, %s: %w", l.subject(), q, err)) // it never left: trying again is no use
		case err != nil:
			k.cfg.Stats.retried("lost")
			p.batch.unsure = true
			k.postpone(q, err.Error(), now)
		default:
			k.settle(p, part, now)
		}
		k.whenQuiet(q, now)
		if q.leader != nil && q.leader != l { // it has waited for the answers that its predecessor owed
			q.leader.wakeUp()
		}
	}
}

// partitionAnswer finds q's part of an answer; nil when there is none.
func partitionAnswer(res *produce.Response, q *queue) *produce.ResponsePartition {
	if res == nil {
		return nil
	}
	for i := range res.Topics {
		if res.Topics[i].Topic != q.topic.name {
			continue
		}
		for j := range res.Topics[i].Partitions {
			if p := &res.Topics[i].Partitions[j]; p.Partition == q.partition {
				return p
			}
		}
	}
	return nil
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
