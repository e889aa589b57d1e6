package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

// CreateTopics makes those of the topics that do not exist, as cfg.Topics wants new ones, and gives their names.
func CreateTopics(ctx context.Context, cfg Config, names []string) (made []string, err error) {
	cfg.Ledger = nil
	k, err := New(cfg)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, addr := range k.cfg.Brokers {
		conn, err := broker.Dial(ctx, addr, &k.cfg.Conn)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer func() { _ = conn.Close() }()
		return k.createMissing(ctx, conn, names)
	}
	return nil, errors.Join(errs...)
}

func (k *Kafka) createMissing(ctx context.Context, conn *broker.Conn, names []string) (made []string, err error) {
	cluster, err := describe(ctx, conn, names)
	if err != nil {
		return nil, err
	}
	missing := missingTopics(cluster)
	if len(missing) == 0 {
		return nil, nil
	}
	answer, err := k.requestTopics(ctx, cluster, missing)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, t := range answer.Topics {
		switch t.ErrorCode {
		case 0:
			made = append(made, t.Name)
		case codeTopicAlreadyExists: // by somebody else, meanwhile
		default:
			err := fmt.Errorf("create topic %s: %w", t.Name, &answerError{t.ErrorCode, t.ErrorMessage})
			if t.ErrorCode == codeInvalidReplicationFactor {
				err = fmt.Errorf("%w: set kafka.topics.replication_factor to no more than there are brokers", err)
			}
			errs = append(errs, err)
		}
	}
	return made, errors.Join(errs...)
}

func missingTopics(cluster *metadata.Response) (names []string) {
	for _, t := range cluster.Topics {
		if t.ErrorCode == codeUnknownTopic {
			names = append(names, t.Name)
		}
	}
	return names
}
