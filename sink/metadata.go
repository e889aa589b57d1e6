package sink

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
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

// describe asks for the cluster's brokers and the named topics, with what may be done to them; for no topic where names is
// empty, never for all.
func describe(ctx context.Context, conn *broker.Conn, names []string) (*metadata.Response, error) {
	if names == nil {
		names = []string{} // nil would ask for every topic of the cluster
	}
	answer, err := conn.Do(ctx, &metadata.Request{TopicNames: names, IncludeTopicAuthorizedOperations: true})
	if err != nil {
		return nil, err
	}
	cluster := answer.(*metadata.Response)
	if len(cluster.Brokers) == 0 { // nor of topics, then
		return nil, fmt.Errorf("broker %s does not know of any broker: it has just come up, and another one is asked", conn.Addr())
	}
	return cluster, nil
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
		var missing []string
		res, err := describe(ctx, conn, k.topicNames())
		if err == nil {
			err = k.doubt(conn.Addr(), res)
			missing = k.apply(ctx, res)
		}
		switch {
		case err != nil && used:
			return nil
		case err != nil:
			return err
		}
		k.clearTrouble(kafkaSubject)
		if k.cfg.Topics.Create && len(missing) > 0 {
			err = k.createTopics(ctx, res, missing)
		}
		if err != nil {
			k.setTrouble("topics", err.Error()+"; retried")
		} else { // also where somebody else has made them
			k.clearTrouble("topics")
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

// topicNames are the topics to be kept known: those that rows are for, and those whose return ends the session.
func (k *Kafka) topicNames() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	names := slices.AppendSeq(make([]string, 0, len(k.topics)), maps.Keys(k.topics))
	if k.fence != nil {
		for name := range k.fence.without {
			if k.topics[name] == nil {
				names = append(names, name)
			}
		}
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
		code := k.fence.stillOut(answer)
		t := k.topics[answer.Name]
		if t == nil {
			continue
		}
		if code != 0 {
			if classify(code) == classTopic {
				k.withoutTopic(t, code)
			}
			if code == codeUnknownTopic && !t.idle() {
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

// withoutTopic holds the rows of a topic that is unknown or forbidden. Unless policy is Stop they are given up after topics.wait.
func (k *Kafka) withoutTopic(t *topic, code int16) {
	if t.trouble.IsZero() {
		t.trouble = time.Now()
	}
	if t.idle() { // it may have been deleted for good: that is nobody's trouble
		k.troubles.clear("topic " + t.name)
		for _, q := range t.queues {
			k.troubles.clear(q.String()) // what failed has been given up, and nobody leads it
		}
		if !t.written() && time.Since(t.asked) > topicForgotten {
			k.forget(t)
		}
		return
	}
	what := errorName(code)
	switch {
	case t.refused != "":
		what += ": it cannot be created: " + t.refused
	case code == codeUnknownTopic && !k.cfg.Topics.Create:
		what += ": create the topic, or set kafka.topics.create: true"
	case code != codeUnknownTopic && k.fence != nil:
		what += ": the relay's principal needs READ, WRITE and DESCRIBE on it"
	case code != codeUnknownTopic:
		what += ": the relay's principal needs WRITE and DESCRIBE on it"
	}
	if code != codeUnknownTopic || !k.cfg.Topics.Create || t.refused != "" { // else it is being created: no trouble yet
		rest := "; its rows wait, other topics go on"
		if k.cfg.OnPoison != Stop && k.fence.keeps(t.name) {
			rest = "; its rows wait, whatever outbox.on_poison says, since Kafka may hold some of them already; other topics go on"
		}
		k.troubles.set("topic "+t.name, what+rest)
	}
	if k.err == nil && k.givesUp(t) && time.Since(t.trouble) > k.cfg.Topics.Wait {
		k.abandon(t, what)
	}
}

// topicForgotten is how long after its last row a topic that does not exist is kept in mind: rows may name any number of them.
const topicForgotten = 10 * time.Minute

// forget lets go of a topic. One that was written is kept, for what its partitions know: where their sequence numbers stand, and
// behind which offset the next batch has to lie.
func (k *Kafka) forget(t *topic) {
	for _, q := range t.queues {
		k.follow(q, nil)
	}
	k.troubles.clear("read " + t.name)
	delete(k.topics, t.name)
}
