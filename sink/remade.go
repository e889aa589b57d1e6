package sink

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

// A topic that is made anew may have fewer partitions than before. A transaction over one that is missing is refused as if the
// whole topic were missing; so that is what a session believes until it sees the topic.

// partitionsOf is how many partitions a topic is known to have had. Kafka takes none away.
func (k *Kafka) partitionsOf(topic string) (n int32) {
	if t := k.topics[topic]; t != nil {
		n = int32(max(len(t.queues), t.grown))
	}
	if k.fence != nil {
		n = max(n, k.fence.counts[topic])
	}
	return n
}

// doubt takes topics out of a broker's answer that have fewer partitions there than they had. A broker that lags behind the
// others tells so of a topic that has just grown: only where all of them do was the topic made anew. (What would tell both
// apart, the topic's id of KIP-516, comes with versions of Metadata that kafka-go does not speak; the epochs of its leaders begin at 0
// either way.) The error asks for another broker's word.
func (k *Kafka) doubt(addr string, res *metadata.Response) (doubted error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	res.Topics = slices.DeleteFunc(res.Topics, func(t metadata.ResponseTopic) bool {
		n, had := int32(len(t.Partitions)), k.partitionsOf(t.Name)
		if t.ErrorCode != 0 || n >= had {
			delete(k.fewer, t.Name)
			return false
		}
		if !slices.Contains(k.fewer[t.Name], addr) {
			k.fewer[t.Name] = append(k.fewer[t.Name], addr)
		}
		if agreed(res.Brokers, k.fewer[t.Name]) {
			k.failLocked(k.madeAnew(t.Name, n, had))
		} else {
			doubted = fmt.Errorf("broker %s knows of %d partitions of topic %s, which has had %d: it lags behind, or the topic was made anew; the next one is asked", addr, n, t.Name, had)
		}
		return true
	})
	return doubted
}

// agreed says whether every broker has told so.
func agreed(brokers []metadata.ResponseBroker, told []string) bool {
	for _, b := range brokers {
		if !slices.Contains(told, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))) {
			return false
		}
	}
	return len(brokers) > 0
}

// madeAnew is what to say of a topic that has n partitions after it had more. With exactly-once only a person can judge what it
// means that one of them is gone which is registered.
func (k *Kafka) madeAnew(topic string, n, had int32) error {
	if k.fence != nil {
		for at, p := range k.fence.registered {
			if at.topic == topic && at.partition >= n && (p.ScanFrom != forgotten || p.marker >= 0) {
				return lostData(p.Registration, fmt.Sprintf("its topic has %d partitions", n))
			}
		}
	}
	return fmt.Errorf("topic %s has %d partitions after it had %d: it was deleted and made anew; what was in it is lost in Kafka", topic, n, had)
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

// forget writes that nothing counts any more that is in partitions, or was.
func (f *fence) forget(ctx context.Context, gone []*scanned) error {
	if len(gone) == 0 {
		return nil
	}
	topics, partitions, offsets := make([]string, len(gone)), make([]int32, len(gone)), make([]int64, len(gone))
	for i, p := range gone {
		topics[i], partitions[i], offsets[i] = p.Topic, p.Partition, forgotten
	}
	f.k.cfg.Log.Warn().Strs("topics", topics).Ints32("partitions", partitions).Msg("partitions that are gone or out of reach, and of which nothing counts any more, as was decided")
	return f.ledger.Register(ctx, topics, partitions, offsets, make([]bool, len(gone)))
}
