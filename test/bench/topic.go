package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// createTopic makes a topic and returns when its partitions have leaders: a client that asks before waits for seconds.
func (s *stage) createTopic(ctx context.Context, name string) error {
	s.topics = append(s.topics, name)
	made, err := s.admin.CreateTopic(ctx, int32(s.partitions), 1, nil, name)
	if err == nil {
		err = made.Err
	}
	if err != nil {
		return err
	}
	return await(ctx, 30*time.Second, 20*time.Millisecond, func() error {
		ends, err := s.admin.ListEndOffsets(ctx, name)
		if err == nil {
			err = ends.Error()
		}
		return err
	})
}

// warm has the broker take and give records that nobody measures. One that has just begun runs its code uncompiled, at the
// expense of the relay that happens to be first.
func (b *bench) warm(ctx context.Context) (err error) {
	const records = 300_000
	b.say("warming the broker up")
	s := &stage{bench: b, name: "warm", partitions: slices.Max(b.partitions)}
	topic := s.name + "." + aggregateType
	if s.kafka, err = kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...), kgo.DefaultProduceTopic(topic), kgo.ConsumeTopics(topic)); err != nil {
		return err
	}
	s.admin = kadm.NewClient(s.kafka)
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err := s.createTopic(ctx, topic); err != nil {
		return err
	}
	produced := kgo.AbortingFirstErrPromise(s.kafka)
	for n := range records {
		s.kafka.Produce(ctx, &kgo.Record{Key: []byte(key(n)), Value: s.payload(n)}, produced.Promise())
	}
	if err := produced.Err(); err != nil {
		return err
	}
	for seen := 0; seen < records; {
		fetches := s.kafka.PollFetches(ctx)
		if err := errors.Join(ctx.Err(), fetches.Err()); err != nil {
			return err
		}
		seen += fetches.NumRecords()
	}
	return nil
}

// delivered is the number of records that were ever written to a topic, markers included.
func (s *stage) delivered(ctx context.Context, topic string) (int64, error) {
	ends, err := s.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	var sum int64
	ends.Each(func(o kadm.ListedOffset) { sum += max(0, o.Offset) })
	return sum, ends.Error()
}

// readBackPatience bounds the reading of a topic, for the largest backlogs.
const readBackPatience = 10 * time.Minute

// check reads a relay's topic from its beginning to its present end.
func (s *stage) check(ctx context.Context, r *relay, rows int) (f findings, err error) {
	ctx, cancel := context.WithTimeout(ctx, readBackPatience)
	defer cancel()
	ends, err := s.admin.ListEndOffsets(ctx, r.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return f, err
	}
	left := make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bench.kafka.Brokers()...), kgo.ConsumeTopics(r.Topic), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return f, err
	}
	defer cl.Close()
	t := newTally(rows)
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return f, fmt.Errorf("read %s back: %w", r.Topic, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if rec.Offset >= left[rec.Partition]-1 {
				delete(left, rec.Partition)
			}
			if !rec.Attrs.IsControl() {
				t.record(rec, r.adapter)
			}
		})
	}
	return t.finish(), nil
}
