package sink

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

// ends asks the leaders where the partitions end, and reads there. Those that cannot be had just now are left out, and are
// barred where the right to read is missing.
func (f *fence) ends(ctx context.Context, cluster *metadata.Response, queues []*queue) (ends map[place]int64, barred map[place]bool) {
	parts := make([]*scanned, len(queues))
	for i, q := range queues {
		parts[i] = &scanned{Registration: Registration{Topic: q.topic.name, Partition: q.partition}, marker: -1}
	}
	ends, barred = make(map[place]int64), make(map[place]bool)
	for addr, group := range byLeader(cluster, parts) {
		conn, err := broker.Dial(ctx, addr, &f.k.cfg.Conn)
		if err != nil {
			continue
		}
		for _, p := range group {
			if p.next, err = offsetOf(ctx, conn, p.Topic, p.Partition, -1); err == nil {
				err = provesReadable(ctx, conn, p)
			}
			var answer *answerError
			switch {
			case err == nil:
				ends[place{p.Topic, p.Partition}] = p.next
			case errors.As(err, &answer) && answer.code == codeTopicForbidden:
				barred[place{p.Topic, p.Partition}] = true
			}
		}
		_ = conn.Close()
	}
	return ends, barred
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

// judgeUnreadable says which topics may be written and not be read, so that their partitions cannot be registered. What waits
// there is given up as in a topic that is forbidden. Kafka.mu is held.
func (f *fence) judgeUnreadable(queues []*queue, barred map[place]bool) {
	now := time.Now()
	unreadable := make(map[string]bool)
	for _, q := range queues {
		if barred[place{q.topic.name, q.partition}] {
			if q.barredCode = codeTopicForbidden; q.barred.IsZero() {
				q.barred = now
			}
			f.k.whenQuiet(q, now)
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
