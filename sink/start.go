package sink

import (
	"context"
	"fmt"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go/protocol/initproducerid"

	"github.com/outrider-relay/outrider/sink/broker"
)

// Start gets what a session needs from Kafka before anything is sent for it: a producer id, and with exactly-once the proof
// that nobody else writes and the knowledge of what has been written. While Kafka is away it goes on trying, until ctx
// ends; credentials that a broker refuses are an error at once.
func (k *Kafka) Start(ctx context.Context) error {
	err := k.onAnyBroker(ctx, broker.IsPermanent, func(conn *broker.Conn) error {
		cluster, err := describe(ctx, conn, nil)
		if err != nil {
			return err
		}
		k.clusterID = cluster.ClusterID
		if err := k.learnExpiry(ctx, conn, cluster); err != nil || k.fence != nil {
			return err
		}
		answer, err := conn.Do(ctx, &initproducerid.Request{ProducerID: -1, ProducerEpoch: -1})
		if err != nil {
			return err
		}
		res := answer.(*initproducerid.Response)
		k.producerID, k.epoch = res.ProducerID, res.ProducerEpoch
		err = fmt.Errorf("get a producer id from %s: %w", conn.Addr(), &answerError{code: res.ErrorCode})
		switch classify(res.ErrorCode) {
		case classNone:
			return nil
		case classRetry, classMetadata:
			return err
		}
		return backoff.Permanent(err)
	})
	switch {
	case err != nil && ctx.Err() == nil:
		return &permanent{err}
	case err != nil || k.fence == nil:
		return err
	}
	if err := k.cfg.Ledger.Cluster(k.clusterID); err != nil {
		return err
	}
	return k.fence.start(ctx)
}

// permanent is an error that trying again does not cure.
type permanent struct{ err error }

func (e *permanent) Error() string   { return e.err.Error() }
func (e *permanent) Unwrap() error   { return e.err }
func (e *permanent) Permanent() bool { return true }

// ClusterID is the Kafka cluster's own, known after Start.
func (k *Kafka) ClusterID() string { return k.clusterID }
