package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
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
	// without lists topics that are unknown or forbidden, with the code that said so: they cannot be fenced, so their
	// queues hold, and when they come back the session ends.
	without map[string]int16
	marked  []*scanned // the registered partitions, after the scan

	wake chan struct{} // something waits to be registered

	// Guarded by Kafka.mu once the session runs.
	registered map[place]*scanned
	waiting    []*queue
	notes      map[place]int64 // to be written
}

// Codes that the fence and the scan look at one by one.
const (
	codeOffsetOutOfRange         int16 = 1
	codeInvalidTxnState          int16 = 48
	codeTransactionalIDForbidden int16 = 53
	codeNotAttempted             int16 = 55
)

// txnTimeout is how long the coordinator lets a transaction of ours stay open. It only ever is between two requests.
const txnTimeout = time.Minute

func newFence(k *Kafka, ledger Ledger) *fence {
	return &fence{
		k: k, ledger: ledger, txnID: "outrider." + k.cfg.Name, without: make(map[string]int16),
		wake: make(chan struct{}, 1), registered: make(map[place]*scanned), notes: make(map[place]int64),
	}
}

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
	if slices.Contains(known, f.k.producerID) {
		return nil
	}
	if len(known) > 0 {
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
// only a marker that is read in a log is proof.
func (f *fence) emptyTransaction(ctx context.Context, parts []*scanned) error {
	if len(parts) == 0 {
		return nil // EndTxn without a partition is refused
	}
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
	lost := false
	err := f.onCoordinator(ctx, "AddPartitionsToTxn", func(conn *broker.Conn) (int16, error) {
		answer, err := conn.Do(ctx, req)
		if err != nil {
			return 0, err
		}
		return f.judgeAdded(answer.(*addpartitionstotxn.Response), &lost), nil
	})
	if err != nil || lost {
		return err // what could not be added is left out of the next round
	}
	failpoint("partitions in transaction")
	err = f.onCoordinator(ctx, "EndTxn", func(conn *broker.Conn) (int16, error) {
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
		failpoint("transaction ended")
	}
	return err
}

// judgeAdded gives the code that decides about the request as a whole. One topic that is unknown or forbidden fails all of
// it: such topics are noted, and lost is set.
func (f *fence) judgeAdded(res *addpartitionstotxn.Response, lost *bool) (code int16) {
	for _, t := range res.Results {
		for _, p := range t.Results {
			switch {
			case p.ErrorCode == 0 || p.ErrorCode == codeNotAttempted:
			case classify(p.ErrorCode) == classTopic:
				f.without[t.Name] = p.ErrorCode
				*lost = true
			default:
				code = p.ErrorCode
			}
		}
	}
	return code
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
	}, backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		f.k.setTrouble(subject, err.Error()+"; retried")
	}))
	if err == nil {
		f.k.clearTrouble(subject)
	}
	return err
}

// refused explains what an operator can do about an answer that ends the start.
func (f *fence) refused(err error, code int16) error {
	if code == codeTransactionalIDForbidden {
		return &permanent{fmt.Errorf("%w: exactly-once needs WRITE and DESCRIBE on the transactional id %s, e.g. kafka-acls --add --allow-principal User:... --operation Write --operation Describe --transactional-id %s; or set kafka.delivery: at-least-once", err, f.txnID, f.txnID)}
	}
	return err
}

var errNoCoordinator = errors.New("the transactional id has no coordinator just now")

// dialCoordinator finds and dials the coordinator.
func (f *fence) dialCoordinator(ctx context.Context) (*broker.Conn, error) {
	var found *findcoordinator.Response
	err := f.k.onAnyBroker(ctx, broker.IsPermanent, func(conn *broker.Conn) error {
		const transaction = 1 // the key's type
		answer, err := conn.Do(ctx, &findcoordinator.Request{Key: f.txnID, KeyType: transaction})
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

// names lists the topics that are left out, for an operator.
func (f *fence) names() string {
	var names []string
	for topic, code := range f.without {
		names = append(names, topic+" ("+errorName(code)+")")
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
