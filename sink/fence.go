package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go/protocol/addpartitionstotxn"
	"github.com/segmentio/kafka-go/protocol/endtxn"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/initproducerid"

	"github.com/outrider-relay/outrider/sink/broker"
)

// fence is what makes a session the only writer: a producer id under the relay's transactional id, and an empty
// transaction over every partition that the relay may have written. InitProducerID alone stops nobody who holds the
// older epoch; the marker that ends the transaction raises the epoch in the partition's log, and from there on its leader
// refuses the older one, over leader changes and restarts.
//
// No record is ever part of a transaction: consumers need no isolation level.
type fence struct {
	k      *Kafka
	ledger Ledger
	txnID  string
	// without lists topics that were unknown or forbidden when the session began, with the code that said so; unread are those
	// of them that may hold events above the checkpoint. Written by scan, read by the session.
	without map[string]int16
	unread  map[string]bool
	marked  []*scanned // the registered partitions, after the scan
	// patience is how long a partition may stay without our marker before it is named.
	patience time.Duration
	// opened is since when a transaction of ours may be open, in Unix nanoseconds; 0: none is.
	opened atomic.Int64

	wake chan struct{} // something waits to be registered

	// Guarded by Kafka.mu once the session runs.
	registered map[place]*scanned
	counts     map[string]int32 // how many partitions a topic has had, going by those that are registered and count
	waiting    []*queue
	notes      map[place]int64 // to be written
	stored     uint64          // every event below that number is stored
}

// Codes that the fence and the scan look at one by one.
const (
	codeOffsetOutOfRange         int16 = 1
	codeInvalidTxnState          int16 = 48
	codeTransactionalIDForbidden int16 = 53
	codeNotAttempted             int16 = 55
)

// transactionKey is the type of a key that is a transactional id, to FindCoordinator.
const transactionKey = 1

// txnTimeout is how long the coordinator lets a transaction of ours stay open. It only ever is between two requests.
const txnTimeout = time.Minute

func newFence(k *Kafka, ledger Ledger) *fence {
	return &fence{
		k: k, ledger: ledger, txnID: transactionalID(k.cfg.Name), without: make(map[string]int16), unread: make(map[string]bool),
		patience: markerPatience, wake: make(chan struct{}, 1),
		registered: make(map[place]*scanned), counts: make(map[string]int32), notes: make(map[place]int64),
	}
}

// transactionalID is what the relay of that name is known by to Kafka: the reason why a name is unique on its cluster.
func transactionalID(name string) string { return "outrider." + name }

// take gets the producer id and the next epoch.
func (f *fence) take(ctx context.Context) error {
	err := f.onCoordinator(ctx, "InitProducerID", func(conn *broker.Conn) (int16, error) {
		// A relay that lost its slot while it waited here must not fence its successor.
		if err := f.ledger.Owner(ctx); err != nil {
			return 0, backoff.Permanent(err)
		}
		answer, err := conn.Do(ctx, &initproducerid.Request{
			TransactionalID: f.txnID, TransactionTimeoutMs: int32(txnTimeout.Milliseconds()), ProducerID: -1, ProducerEpoch: -1,
		})
		if err != nil {
			return 0, err
		}
		res := answer.(*initproducerid.Response)
		f.k.producerID, f.k.epoch = res.ProducerID, res.ProducerEpoch
		return res.ErrorCode, nil
	})
	if err != nil {
		return err
	}
	failpoint("producer taken")
	known := f.ledger.Producers()
	switch {
	case slices.Contains(known, f.k.producerID):
		return nil
	case len(known) == 0 && f.k.epoch > 0:
		f.k.cfg.Log.Warn().Int16("epoch", f.k.epoch).
			Msgf("Kafka knows the transactional id %s already, and this relay has never used it: if another relay of the name %s runs anywhere, it has just been fenced", f.txnID, f.k.cfg.Name)
	case len(known) > 0:
		// The coordinator has forgotten the id before (a week without use, or its epochs used up). No marker of the new
		// one fences the old one, so its last requests must have timed out before the scan.
		f.k.cfg.Log.Warn().Int64("producer_id", f.k.producerID).Dur("wait", f.k.cfg.Conn.Timeout).
			Msg("Kafka gave this relay another producer id: waiting until requests of the one before must have timed out")
		pause(ctx, f.k.cfg.Conn.Timeout)
	}
	err = f.ledger.AddProducer(ctx, f.k.producerID)
	if err == nil {
		failpoint("producer known")
	}
	return err
}

// emptyTransaction begins and aborts a transaction over the partitions. What it leaves behind are markers, sooner or later:
// only a marker that is read in a log is proof. Topics that are unknown or forbidden are left out, and noted in without.
func (f *fence) emptyTransaction(ctx context.Context, parts []*scanned, without map[string]int16) error {
	if planted("no fence") {
		return nil
	}
	for {
		parts = reachable(parts, without)
		if len(parts) == 0 {
			f.opened.Store(0)
			return nil // EndTxn without a partition is refused
		}
		added, err := f.addPartitions(ctx, parts, without)
		if err != nil {
			return err
		}
		if added {
			break
		}
	}
	failpoint("partitions in transaction")
	err := f.onCoordinator(ctx, "EndTxn", func(conn *broker.Conn) (int16, error) {
		answer, err := conn.Do(ctx, &endtxn.Request{TransactionalID: f.txnID, ProducerID: f.k.producerID, ProducerEpoch: f.k.epoch})
		if err != nil {
			return 0, err
		}
		code := answer.(*endtxn.Response).ErrorCode
		if code == codeInvalidTxnState {
			code = 0 // an answer was lost, and the transaction had ended: the log says whether the marker is there
		}
		return code, nil
	})
	if err == nil {
		f.opened.Store(0)
		failpoint("transaction ended")
	}
	return err
}

// addPartitions begins the transaction. Where it is false one topic or more was found to be unknown or forbidden, which
// fails the request as a whole.
func (f *fence) addPartitions(ctx context.Context, parts []*scanned, without map[string]int16) (added bool, err error) {
	req := &addpartitionstotxn.Request{TransactionalID: f.txnID, ProducerID: f.k.producerID, ProducerEpoch: f.k.epoch}
	index := make(map[string]int)
	for _, p := range parts {
		i, known := index[p.Topic]
		if !known {
			i = len(req.Topics)
			index[p.Topic] = i
			req.Topics = append(req.Topics, addpartitionstotxn.RequestTopic{Name: p.Topic})
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p.Partition)
	}
	f.opened.CompareAndSwap(0, time.Now().UnixNano())
	err = f.onCoordinator(ctx, "AddPartitionsToTxn", func(conn *broker.Conn) (int16, error) {
		answer, err := conn.Do(ctx, req)
		if err != nil {
			return 0, err
		}
		code, lost := judgeAdded(answer.(*addpartitionstotxn.Response), without)
		added = !lost
		return code, nil
	})
	return added, err
}

// judgeAdded gives the code that decides about the request as a whole. One topic that is unknown or forbidden fails all of
// it: such topics are noted, and lost is true.
func judgeAdded(res *addpartitionstotxn.Response, without map[string]int16) (code int16, lost bool) {
	for _, t := range res.Results {
		for _, p := range t.Results {
			switch {
			case p.ErrorCode == 0 || p.ErrorCode == codeNotAttempted:
			case classify(p.ErrorCode) == classTopic:
				without[t.Name] = p.ErrorCode
				lost = true
			default:
				code = p.ErrorCode
			}
		}
	}
	return code, lost
}

// onCoordinator calls the coordinator of our transactional id until it answers with success, however long that takes,
// or with something that trying again does not cure.
func (f *fence) onCoordinator(ctx context.Context, what string, call func(*broker.Conn) (int16, error)) error {
	subject := "coordinator"
	retry := &backoff.ExponentialBackOff{InitialInterval: 10 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 1.5, MaxInterval: time.Second}
	began := time.Now()
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		conn, err := f.dialCoordinator(ctx)
		if err != nil {
			return struct{}{}, err
		}
		defer func() { _ = conn.Close() }()
		for {
			code, err := call(conn)
			if err != nil {
				return struct{}{}, err
			}
			err = fmt.Errorf("%s: %w", what, &answerError{code: code})
			switch classify(code) {
			case classNone:
				return struct{}{}, nil
			case classRetry:
				// The transaction before is still being ended, or the coordinator loads: a matter of milliseconds, as a rule.
				if ctx.Err() != nil {
					return struct{}{}, backoff.Permanent(ctx.Err())
				}
				if time.Since(began) > time.Second {
					f.k.setTrouble(subject, err.Error()+"; retried")
				}
				pause(ctx, retry.NextBackOff())
			case classMetadata:
				return struct{}{}, err
			default:
				return struct{}{}, backoff.Permanent(f.refused(err, code))
			}
		}
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 50 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 1.5, MaxInterval: 5 * time.Second,
	}), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		f.k.setTrouble(subject, err.Error()+"; retried")
	}))
	if err == nil {
		f.k.clearTrouble(subject)
	}
	return err
}

// refused explains what an operator can do about an answer that ends the start.
func (f *fence) refused(err error, code int16) error {
	if classify(code) == classFenced {
		return f.fenced(err)
	}
	if code == codeTransactionalIDForbidden {
		return &permanent{fmt.Errorf("%w: exactly-once needs WRITE and DESCRIBE on the transactional id %s, e.g. kafka-acls --add --allow-principal User:... --operation Write --operation Describe --transactional-id %s; or set kafka.delivery: at-least-once", err, f.txnID, f.txnID)}
	}
	return err
}

// Fenced is the end of a session whose place another producer with the same transactional id has taken.
type Fenced struct {
	err   error
	txnID string
}

func (e *Fenced) Error() string { return e.err.Error() }
func (e *Fenced) Unwrap() error { return e.err }

// TransactionalID is the one that two producers have in common.
func (e *Fenced) TransactionalID() string { return e.txnID }

// fenced marks err as the work of another producer, unless it was ourselves: the coordinator fences a producer whose
// transaction stays open for too long. With at-least-once nobody fences.
func (f *fence) fenced(err error) error {
	if f == nil {
		return err
	}
	if opened := f.opened.Load(); opened != 0 && time.Since(time.Unix(0, opened)) > txnTimeout {
		return fmt.Errorf("%w: the session's own transaction stayed open for longer than %s, and the coordinator has ended it", err, txnTimeout)
	}
	return &Fenced{err, f.txnID}
}

var errNoCoordinator = errors.New("the transactional id has no coordinator just now")

// dialCoordinator finds and dials the coordinator.
func (f *fence) dialCoordinator(ctx context.Context) (*broker.Conn, error) {
	var found *findcoordinator.Response
	err := f.k.onAnyBroker(ctx, broker.IsPermanent, func(conn *broker.Conn) error {
		answer, err := conn.Do(ctx, &findcoordinator.Request{Key: f.txnID, KeyType: transactionKey})
		if err != nil {
			return err
		}
		found = answer.(*findcoordinator.Response)
		switch classify(found.ErrorCode) {
		case classNone:
			return nil
		case classRetry, classMetadata:
			return fmt.Errorf("%w: %s", errNoCoordinator, errorName(found.ErrorCode))
		}
		err = fmt.Errorf("find the coordinator of %s: %w", f.txnID, &answerError{found.ErrorCode, found.ErrorMessage})
		return backoff.Permanent(f.refused(err, found.ErrorCode))
	})
	if err != nil {
		return nil, backoff.Permanent(err)
	}
	return broker.Dial(ctx, net.JoinHostPort(found.Host, strconv.Itoa(int(found.Port))), &f.k.cfg.Conn)
}
