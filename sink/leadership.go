package sink

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"

	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

// size sets a topic's number of partitions. A larger number than before is used once the old queues have run empty; a smaller
// one does not get here.
func (k *Kafka) size(t *topic, n int32) {
	switch have := int32(len(t.queues)); {
	case n == have: // both are 0 where a topic is described before its partitions are
	case have == 0:
		t.grown = 0
		k.addQueues(t, n)
	default:
		t.grown = int(n)
	}
}

func (k *Kafka) addQueues(t *topic, n int32) {
	for p := int32(len(t.queues)); p < n; p++ {
		q := newQueue(t, p)
		t.queues = append(t.queues, q)
		if k.fence == nil {
			q.ready = true
		} else {
			k.fence.admit(q)
		}
	}
	k.empty(t)
}

// regrow takes a larger partition count into use when nothing is left in the old partitions.
func (k *Kafka) regrow(t *topic) {
	if t.grown > 0 && t.drained() {
		n := int32(t.grown)
		t.grown = 0
		k.addQueues(t, n)
		k.askRefresh() // for the new partitions' leaders
	}
}

// lead gives a partition's queue to its leader, which is started when it is new.
func (k *Kafka) lead(ctx context.Context, t *topic, a *metadata.ResponsePartition, addrs map[int32]string) {
	if int(a.PartitionIndex) >= len(t.queues) {
		return
	}
	q := t.queues[a.PartitionIndex]
	addr, known := addrs[a.LeaderID]
	if a.ErrorCode != 0 || !known {
		if !q.empty() {
			k.troubles.set(q.String(), "the partition has no leader; its rows wait")
		}
		k.follow(q, nil)
		return
	}
	if q.failures == 0 || q.empty() { // what failed has been given up
		k.troubles.clear(q.String())
	}
	l := k.leaders[a.LeaderID]
	if l == nil {
		l = &leader{k: k, id: a.LeaderID, addr: addr, wake: make(chan struct{}, 1)}
		k.leaders[a.LeaderID] = l
		k.group.Go(func() error { return l.run(k.runCtx) })
	}
	k.follow(q, l)
}

// follow moves q to another leader. What is in flight to the old one is answered there, before anything goes to the new one.
func (k *Kafka) follow(q *queue, l *leader) {
	if q.leader == l {
		return
	}
	if old := q.leader; old != nil {
		old.queues = slices.DeleteFunc(old.queues, func(o *queue) bool { return o == q })
		q.rewind = q.rewind || q.inFlight > 0
	}
	if q.leader = l; l != nil {
		l.queues = append(l.queues, q)
	}
}

// createTopics makes missing topics as the settings say.
func (k *Kafka) createTopics(ctx context.Context, res *metadata.Response, names []string) error {
	answer, err := k.requestTopics(ctx, res, names)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, made := range answer.Topics {
		t := k.topics[made.Name]
		switch {
		case t == nil:
		case made.ErrorCode == 0:
			t.refused = ""
			k.cfg.Log.Info().Str("topic", t.name).Int32("partitions", k.cfg.Topics.Partitions).Msg("topic created")
		case made.ErrorCode != codeTopicAlreadyExists:
			t.refused = (&answerError{made.ErrorCode, made.ErrorMessage}).Error()
			k.withoutTopic(t, codeUnknownTopic)
		}
	}
	return nil
}

// requestTopics asks the controller for topics as the settings want new ones.
func (k *Kafka) requestTopics(ctx context.Context, res *metadata.Response, names []string) (*createtopics.Response, error) {
	at := slices.IndexFunc(res.Brokers, func(b metadata.ResponseBroker) bool { return b.NodeID == res.ControllerID })
	if at < 0 {
		return nil, errors.New("create topics: the cluster has no controller just now")
	}
	addr := net.JoinHostPort(res.Brokers[at].Host, strconv.Itoa(int(res.Brokers[at].Port)))
	conn, err := broker.Dial(ctx, addr, &k.cfg.Conn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	req := &createtopics.Request{TimeoutMs: int32(k.cfg.Conn.Timeout.Milliseconds() / 2)}
	for _, name := range names {
		t := createtopics.RequestTopic{Name: name, NumPartitions: k.cfg.Topics.Partitions, ReplicationFactor: k.cfg.Topics.ReplicationFactor}
		for key, value := range k.cfg.Topics.Config {
			t.Configs = append(t.Configs, createtopics.RequestConfig{Name: key, Value: value})
		}
		req.Topics = append(req.Topics, t)
	}
	answer, err := conn.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	return answer.(*createtopics.Response), nil
}
