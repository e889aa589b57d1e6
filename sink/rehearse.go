package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"golang.org/x/sync/errgroup"

	"github.com/outrider-relay/outrider/sink/broker"
)

// Rehearse goes as far towards a session as is possible without disturbing another relay's: it checks the settings, finds
// the cluster, asks for the coordinator where delivery is exactly-once, and dials every broker once. The error says why a
// session could not begin now.
func Rehearse(ctx context.Context, cfg Config, exactlyOnce bool) error {
	cfg.Ledger = nil
	k, err := New(cfg)
	if err != nil {
		return err
	}
	var errs []error
	for _, addr := range k.cfg.Brokers {
		var cluster *metadata.Response
		if cluster, err = k.rehearseWith(ctx, addr, exactlyOnce); err == nil {
			return k.dialAll(ctx, cluster)
		}
		if broker.IsPermanent(err) {
			return &permanent{err} // at which a start ends too
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// rehearseWith asks one broker what the start of a session asks.
func (k *Kafka) rehearseWith(ctx context.Context, addr string, exactlyOnce bool) (*metadata.Response, error) {
	conn, err := broker.Dial(ctx, addr, &k.cfg.Conn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	cluster, err := describe(ctx, conn, nil)
	if err != nil || !exactlyOnce {
		return cluster, err
	}
	f := newFence(k, nil)
	answer, err := conn.Do(ctx, &findcoordinator.Request{Key: f.txnID, KeyType: transactionKey})
	if err != nil {
		return nil, err
	}
	if found := answer.(*findcoordinator.Response); found.ErrorCode != 0 {
		err = fmt.Errorf("find the coordinator of %s: %w", f.txnID, &answerError{found.ErrorCode, found.ErrorMessage})
		return nil, f.refused(err, found.ErrorCode)
	}
	return cluster, nil
}

// dialAll dials every broker, which may each be configured differently. One that is away is no reason not to begin: a
// leader goes on without it too.
func (k *Kafka) dialAll(ctx context.Context, cluster *metadata.Response) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, b := range cluster.Brokers {
		group.Go(func() error {
			conn, err := broker.Dial(ctx, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))), &k.cfg.Conn)
			if err == nil {
				return conn.Close()
			}
			if broker.IsPermanent(err) {
				return err
			}
			return nil
		})
	}
	return group.Wait()
}
