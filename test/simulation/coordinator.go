package simulation

import (
	"maps"
	"math/rand/v2"
	"time"
)

// txnState is a state of a transactional id (TransactionState in Kafka's coordinator).
type txnState int

const (
	txnEmpty txnState = iota
	txnOngoing
	txnEnding // PrepareAbort: markers are being written
	txnEnded  // CompleteAbort
)

// place is a partition of a topic.
type place struct {
	topic string
	id    int32
}

// transaction is what the coordinator knows of a transactional id.
type transaction struct {
	producer   int64
	epoch      int16
	state      txnState
	partitions map[place]bool
	timeout    time.Duration
	began      int // counts the transactions, for the time-out of one not to end the next
	missing    int // markers still to be written
}

// coordinator keeps all transactional ids. It lives in one broker at a time; what it knows is in a topic of its own, and
// survives the broker.
type coordinator struct {
	partitions map[place]*partition
	ids        map[string]*transaction
	next       int64 // producer id
	rng        *rand.Rand
	// slow makes markers come seconds after the answer to EndTxn.
	slow bool
	// skips makes an end of a transaction leave partitions without a leader unmarked (seen on Kafka 4.3).
	skips bool
	// locked runs f under the cluster's lock.
	locked func(f func())
}

// newProducer gives an id of no transactional id.
func (c *coordinator) newProducer() int64 { c.next++; return 1000 + c.next }

// init is InitProducerID.
func (c *coordinator) init(id string, timeout time.Duration) (code int16, producer int64, epoch int16) {
	t := c.ids[id]
	if t == nil {
		t = &transaction{producer: c.newProducer(), epoch: -1, partitions: make(map[place]bool)}
		c.ids[id] = t
	}
	switch {
	case plantedIn(openTransactionsOK):
	case t.state == txnOngoing:
		t.epoch++ // fences the owner, whose transaction ends under the new epoch
		c.end(t)
		return concurrentTransactions, -1, -1
	case t.state == txnEnding:
		return concurrentTransactions, -1, -1
	}
	if plantedIn(initFences) {
		for _, p := range c.partitions {
			if known := p.producers[t.producer]; known != nil {
				known.epoch = t.epoch + 1
			}
		}
	}
	t.epoch, t.state, t.timeout = t.epoch+1, txnEmpty, timeout
	return none, t.producer, t.epoch
}

// check says whether a request comes from the owner of a transactional id.
func (c *coordinator) check(id string, producer int64, epoch int16) (*transaction, int16) {
	t := c.ids[id]
	switch {
	case t == nil || t.producer != producer:
		return nil, invalidProducerMapping
	case t.epoch != epoch:
		return nil, producerFenced
	}
	return t, none
}

// add is AddPartitionsToTxn.
func (c *coordinator) add(id string, producer int64, epoch int16, places []place) int16 {
	t, code := c.check(id, producer, epoch)
	if code != none {
		return code
	}
	if t.state == txnEnding {
		return concurrentTransactions
	}
	if t.state != txnOngoing {
		clear(t.partitions)
		t.state = txnOngoing
		t.began++
		began := t.began
		time.AfterFunc(t.timeout, func() { c.locked(func() { c.expire(t, began) }) })
	}
	for _, p := range places {
		t.partitions[p] = true
	}
	return none
}

// expire aborts a transaction that was left open, under the next epoch.
func (c *coordinator) expire(t *transaction, began int) {
	if t.state == txnOngoing && t.began == began {
		t.epoch++
		c.end(t)
	}
}

// abort is EndTxn. It is answered before the markers are written.
func (c *coordinator) abort(id string, producer int64, epoch int16) int16 {
	t, code := c.check(id, producer, epoch)
	if code != none {
		return code
	}
	switch t.state {
	case txnOngoing:
		c.end(t)
		return none
	case txnEnding:
		return concurrentTransactions
	case txnEnded:
		return none
	}
	return invalidTxnState
}

// end has the markers written, each in its own time.
func (c *coordinator) end(t *transaction) {
	t.state, t.missing = txnEnding, len(t.partitions)
	if t.missing == 0 {
		t.state = txnEnded
	}
	for p := range maps.Clone(t.partitions) {
		delay := time.Duration(c.rng.IntN(3000)) * time.Microsecond
		if c.slow || c.rng.IntN(20) == 0 {
			delay = time.Duration(c.rng.IntN(5000)) * time.Millisecond
		}
		time.AfterFunc(delay, func() { c.locked(func() { c.mark(t, t.epoch, p) }) })
	}
}

// mark writes one marker, or tries again when the partition has a leader.
func (c *coordinator) mark(t *transaction, epoch int16, at place) {
	p := c.partitions[at]
	if p != nil && p.leader < 0 && !c.skips {
		time.AfterFunc(100*time.Millisecond, func() { c.locked(func() { c.mark(t, epoch, at) }) })
		return
	}
	if p != nil && p.leader >= 0 {
		p.mark(t.producer, epoch, time.Now())
	}
	if t.missing--; t.missing == 0 {
		t.state = txnEnded
	}
}
