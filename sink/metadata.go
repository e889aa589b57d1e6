package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

const (
	// metadataMaxAge is how old metadata may get: new partitions are noticed within that time.
	metadataMaxAge = time.Minute
	// metadataSoon is how old it may get while rows wait for what it will say.
	metadataSoon = 200 * time.Millisecond
	// metadataMinAge is the least time between two requests while something is unknown.
	metadataMinAge = 50 * time.Millisecond
	// kafkaSubject is the cluster as a whole, among the troubles.
	kafkaSubject = "kafka"
)

// askRefresh asks for new metadata soon.
func (k *Kafka) askRefresh() {
	select {
	case k.refresh <- struct{}{}:
	default:
	}
}

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
		if k.fence != nil {
			return nil
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
	return k.fence.start(ctx)
}

// permanent is an error that trying again does not cure.
type permanent struct{ err error }

func (e *permanent) Error() string   { return e.err.Error() }
func (e *permanent) Unwrap() error   { return e.err }
func (e *permanent) Permanent() bool { return true }

// ClusterID is the Kafka cluster's own, known after Start.
func (k *Kafka) ClusterID() string { return k.clusterID }

// onAnyBroker dials the bootstrap brokers, and those that metadata has told of, in turn until f succeeds with one,
// however long that takes, or hopeless says of an error that it is no use. A backoff.Permanent error of f ends it too.
func (k *Kafka) onAnyBroker(ctx context.Context, hopeless func(error) bool, f func(*broker.Conn) error) error {
	next := 0
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		addr := k.broker(next)
		next++
		conn, err := broker.Dial(ctx, addr, &k.cfg.Conn)
		if err == nil {
			err = f(conn)
			_ = conn.Close()
		}
		if hopeless(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 50 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 1.5, MaxInterval: 5 * time.Second,
	}), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		k.setTrouble(kafkaSubject, err.Error()+"; retried")
	}))
	if err == nil {
		k.clearTrouble(kafkaSubject)
	}
	return err
}

// broker is the address to try as the i-th: those of the settings come first.
func (k *Kafka) broker(i int) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if i %= len(k.cfg.Brokers) + len(k.known); i < len(k.cfg.Brokers) {
		return k.cfg.Brokers[i]
	}
	return k.known[i-len(k.cfg.Brokers)]
}

// describe asks for the cluster's brokers and the named topics; for no topic where names is empty, never for all.
func describe(ctx context.Context, conn *broker.Conn, names []string) (*metadata.Response, error) {
	if names == nil {
		names = []string{} // nil would ask for every topic of the cluster
	}
	answer, err := conn.Do(ctx, &metadata.Request{TopicNames: names})
	if err != nil {
		return nil, err
	}
	return answer.(*metadata.Response), nil
}

// keepMetadata keeps topics, partitions and leaders known, on a connection of its own.
func (k *Kafka) keepMetadata(ctx context.Context) error {
	for ctx.Err() == nil {
		// Whatever is wrong now was right when the session began, and may be mended while it runs.
		never := func(error) bool { return false }
		if err := k.onAnyBroker(ctx, never, func(conn *broker.Conn) error { return k.followMetadata(ctx, conn) }); err != nil {
			return err
		}
		pause(ctx, metadataMinAge)
	}
	return ctx.Err()
}

// followMetadata refreshes over one connection, for as long as that lives. It is an error only if that was no good at all.
func (k *Kafka) followMetadata(ctx context.Context, conn *broker.Conn) error {
	timer := time.NewTimer(metadataMaxAge)
	defer timer.Stop()
	for used := false; ; used = true {
		res, err := describe(ctx, conn, k.topicNames())
		if err != nil {
			if used {
				return nil
			}
			return err
		}
		k.clearTrouble(kafkaSubject)
		missing := k.apply(ctx, res)
		if k.cfg.Topics.Create && len(missing) > 0 {
			if err := k.createTopics(ctx, res, missing); err != nil {
				k.setTrouble("topics", err.Error()+"; retried")
			} else {
				k.clearTrouble("topics")
			}
		}
		age := k.metadataAge(time.Now())
		if retire := conn.RetireAt(); !retire.IsZero() {
			age = min(age, max(0, time.Until(retire)))
		}
		timer.Reset(age)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-conn.Done():
			return nil
		case <-k.refresh:
			pause(ctx, metadataMinAge)
		case <-timer.C:
		}
		if retire := conn.RetireAt(); !retire.IsZero() && time.Now().After(retire) {
			return nil
		}
	}
}

func (k *Kafka) topicNames() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	names := make([]string, 0, len(k.topics))
	for name := range k.topics {
		names = append(names, name)
	}
	return names
}

// metadataAge is how old metadata may get now. Rows that wait for it, in a lobby or in a queue without a leader, want it
// soon; those of a topic that somebody has to mend can wait.
func (k *Kafka) metadataAge(now time.Time) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	age := metadataMaxAge
	for _, t := range k.topics {
		if len(t.lobby) > 0 {
			if !t.trouble.IsZero() && now.Sub(t.trouble) > topicRetry {
				age = min(age, topicRetry)
				continue
			}
			return metadataSoon
		}
		for _, q := range t.queues {
			if q.leader == nil && !q.empty() {
				return metadataSoon
			}
		}
	}
	return age
}

// apply takes metadata over, and gives the topics that do not exist.
func (k *Kafka) apply(ctx context.Context, res *metadata.Response) (missing []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	addrs := make(map[int32]string, len(res.Brokers))
	k.known = k.known[:0]
	for _, b := range res.Brokers {
		addrs[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		k.known = append(k.known, addrs[b.NodeID])
		if l := k.leaders[b.NodeID]; l != nil {
			l.addr = addrs[b.NodeID]
		}
	}
	for i := range res.Topics {
		answer := &res.Topics[i]
		t := k.topics[answer.Name]
		if t == nil {
			continue
		}
		if answer.ErrorCode != 0 {
			if classify(answer.ErrorCode) == classTopic {
				k.withoutTopic(t, answer.ErrorCode)
			}
			if answer.ErrorCode == codeUnknownTopic {
				missing = append(missing, t.name)
			}
			continue
		}
		k.troubles.clear("topic " + t.name)
		t.trouble, t.refused = time.Time{}, ""
		k.size(t, int32(len(answer.Partitions)))
		for j := range answer.Partitions {
			k.lead(ctx, t, &answer.Partitions[j], addrs)
		}
		k.regrow(t)
	}
	for _, l := range k.leaders {
		l.wakeUp()
	}
	return missing
}

// withoutTopic holds the rows of a topic that is unknown or forbidden. Under Skip they are given up after topics.wait.
func (k *Kafka) withoutTopic(t *topic, code int16) {
	what := errorName(code)
	switch {
	case t.refused != "":
		what += ": it cannot be created: " + t.refused
	case code == codeUnknownTopic && !k.cfg.Topics.Create:
		what += ": create the topic, or set kafka.topics.create: true"
	case code != codeUnknownTopic:
		what += ": the relay's principal needs WRITE and DESCRIBE on it"
	}
	if code != codeUnknownTopic || !k.cfg.Topics.Create || t.refused != "" { // else it is being created: no trouble yet
		k.troubles.set("topic "+t.name, what+"; its rows wait, other topics go on")
	}
	if t.trouble.IsZero() {
		t.trouble = time.Now()
	}
	if k.cfg.OnPoison == Skip && time.Since(t.trouble) > k.cfg.Topics.Wait {
		k.abandon(t, what)
	}
}

// size sets a topic's number of partitions. A larger number than before is used once the old queues have run empty.
func (k *Kafka) size(t *topic, n int32) {
	switch have := int32(len(t.queues)); {
	case n == have: // both are 0 where a topic is described before its partitions are
	case have == 0:
		t.grown = 0
		k.addQueues(t, n)
	case n > have:
		t.grown = int(n)
	case n < have:
		k.failLocked(fmt.Errorf("topic %s has %d partitions after it had %d: it was deleted and made anew; what was in it is lost in Kafka", t.name, n, have))
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
	if q.failures == 0 {
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
	at := slices.IndexFunc(res.Brokers, func(b metadata.ResponseBroker) bool { return b.NodeID == res.ControllerID })
	if at < 0 {
		return errors.New("create topics: the cluster has no controller just now")
	}
	addr := net.JoinHostPort(res.Brokers[at].Host, strconv.Itoa(int(res.Brokers[at].Port)))
	conn, err := broker.Dial(ctx, addr, &k.cfg.Conn)
	if err != nil {
		return err
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
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, made := range answer.(*createtopics.Response).Topics {
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
