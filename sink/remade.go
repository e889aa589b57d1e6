package sink

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

// A topic that is made anew may have fewer partitions than are registered. A transaction over one that is missing is refused
// as if the whole topic were missing; so that is what a session believes until it sees the topic.

// beyond is the verdict on a topic of n partitions of which more are registered; nil where there are none.
func (f *fence) beyond(topic string, n int32) error {
	for at, p := range f.registered {
		if at.topic == topic && at.partition >= n {
			return lostData(p.Registration, fmt.Sprintf("its topic has %d partitions", n))
		}
	}
	return nil
}

// forgotten is the place to scan from of a partition of which nothing counts any more: its present end.
const forgotten = -1

// leaveForgotten leaves out partitions that a person has let go of, and that their topics no longer have. That is kept, so
// that later sessions leave them out too.
func (f *fence) leaveForgotten(ctx context.Context, parts []*scanned) (kept []*scanned, err error) {
	topics := make(map[string]bool)
	for _, p := range parts {
		if p.ScanFrom == forgotten {
			topics[p.Topic] = true
		}
	}
	if len(topics) == 0 {
		return parts, nil
	}
	var names []string
	for name := range topics {
		names = append(names, name)
	}
	counts := make(map[string]int32)
	err = f.k.onAnyBroker(ctx, broker.IsPermanent, func(conn *broker.Conn) error {
		var cluster *metadata.Response
		if cluster, err = describe(ctx, conn, names); err != nil {
			return err
		}
		for i := range cluster.Topics {
			if t := &cluster.Topics[i]; t.ErrorCode == 0 {
				counts[t.Name] = int32(len(t.Partitions))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var gone []*scanned
	for _, p := range parts {
		if n, known := counts[p.Topic]; known && p.ScanFrom == forgotten && p.Partition >= n {
			gone = append(gone, p)
		} else {
			kept = append(kept, p)
		}
	}
	return kept, f.forget(ctx, gone)
}

// forget writes that nothing counts any more in partitions that are gone.
func (f *fence) forget(ctx context.Context, gone []*scanned) error {
	if len(gone) == 0 {
		return nil
	}
	topics, partitions, offsets := make([]string, len(gone)), make([]int32, len(gone)), make([]int64, len(gone))
	for i, p := range gone {
		topics[i], partitions[i], offsets[i] = p.Topic, p.Partition, forgotten
	}
	f.k.cfg.Log.Warn().Strs("topics", topics).Ints32("partitions", partitions).Msg("partitions that are registered are gone with the topics of before, and are left out")
	return f.ledger.Register(ctx, topics, partitions, offsets, make([]bool, len(gone)))
}
