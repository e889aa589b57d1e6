package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// check reads the topic back. Row n has key n modulo keys, so a key's rows are one chain: each n is keys above the one
// before. A row that is missing, repeated or out of order breaks it.
func (s *stage) check(ctx context.Context, rows, keys int) error {
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	ends, err := s.admin.ListEndOffsets(ctx, s.topic())
	if err != nil {
		return err
	}
	left := make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bench.kafka.Brokers()...), kgo.ConsumeTopics(s.topic()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer cl.Close()
	next := make([]int, keys)
	for k := range next {
		next[k] = k
	}
	seen := 0
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read the topic back: %w", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset >= left[r.Partition]-1 {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() {
				return
			}
			var payload struct{ N int }
			if e := json.Unmarshal(r.Value, &payload); e != nil || payload.N < 0 || payload.N >= rows {
				err = errors.Join(err, fmt.Errorf("%s/%d@%d is no row of the backlog", r.Topic, r.Partition, r.Offset))
				return
			}
			key := payload.N % keys
			if want := next[key]; payload.N != want && err == nil {
				err = fmt.Errorf("%s/%d@%d: row %d of its key where %d belongs", r.Topic, r.Partition, r.Offset, payload.N, want)
			}
			next[key] = payload.N + keys
			seen++
		})
	}
	if err == nil && seen != rows {
		err = fmt.Errorf("%d records of %d rows", seen, rows)
	}
	return err
}

// percentile of sorted durations.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(float64(len(sorted))*p/100))]
}
