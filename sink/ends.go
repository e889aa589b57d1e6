package sink

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

// ends asks the leaders where the partitions end, and reads there. Those whose leader is away are left out, and it says so itself;
// refused says what came of others.
func (f *fence) ends(ctx context.Context, cluster *metadata.Response, queues []*queue) (ends map[place]int64, refused map[place]error) {
	parts := make([]*scanned, len(queues))
	for i, q := range queues {
		parts[i] = &scanned{Registration: Registration{Topic: q.topic.name, Partition: q.partition}, marker: -1}
	}
	ends, refused = make(map[place]int64), make(map[place]error)
	for addr, group := range byLeader(cluster, parts) {
		conn, err := broker.Dial(ctx, addr, &f.k.cfg.Conn)
		if err != nil {
			continue
		}
		for _, p := range group {
			if p.next, err = offsetOf(ctx, conn, p.Topic, p.Partition, -1); err == nil {
				err = provesReadable(ctx, conn, p)
			}
			if at := (place{p.Topic, p.Partition}); err == nil {
				ends[at] = p.next
			} else {
				refused[at] = err
			}
		}
		_ = conn.Close()
	}
	return ends, refused
}

// provesReadable reads at the end of a partition, where nothing is.
func provesReadable(ctx context.Context, conn *broker.Conn, p *scanned) error {
	req := fetchRequest([]*scanned{p})
	req.MaxWaitTime, req.MinBytes = 0, 0
	answers, err := fetchFrom(ctx, conn, req)
	if err != nil {
		return err
	}
	for i := range answers {
		if code := answers[i].code; code != 0 && code != codeOffsetOutOfRange {
			return &answerError{code: code}
		}
	}
	return nil
}

// judgeRefused says which partitions cannot be registered. What waits for those that may be written and not be read is given up as
// in a topic that is forbidden. Kafka.mu is held.
func (f *fence) judgeRefused(queues []*queue, refused map[place]error) {
	now := time.Now()
	unreadable := make(map[string]bool)
	for _, q := range queues {
		err := refused[place{q.topic.name, q.partition}]
		var answer *answerError
		switch {
		case err == nil:
		case errors.As(err, &answer) && answer.code == codeTopicForbidden:
			if q.barredCode = codeTopicForbidden; q.barred.IsZero() {
				q.barred = now
			}
			f.k.whenQuiet(q, now)
		default:
			if q.failures++; q.failures > 2 && !q.empty() {
				f.k.troubles.set(q.String(), "cannot be registered, and its rows wait: "+err.Error()+"; retried")
			}
		}
		unreadable[q.topic.name] = unreadable[q.topic.name] || !q.barred.IsZero()
	}
	for topic, is := range unreadable {
		if subject := "read " + topic; is {
			f.k.troubles.set(subject, errorName(codeTopicForbidden)+": exactly-once reads back what it has written, and the relay's principal needs READ on the topic; its rows wait, other topics go on")
		} else {
			f.k.troubles.clear(subject)
		}
	}
}
