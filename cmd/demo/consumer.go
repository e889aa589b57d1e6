package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// payloadShown bounds what is printed of a value, in characters.
const payloadShown = 80

// retryPause is short, so that what is seen after an outage is the relay's pace.
const retryPause = 200 * time.Millisecond

// consume prints each record until ctx ends.
func consume(ctx context.Context, brokers []string, t *tally, s *screen) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RetryBackoffFn(func(int) time.Duration { return retryPause }),
	)
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		fetches.EachError(func(_ string, _ int32, err error) {
			if !errors.Is(err, context.Canceled) {
				s.warn("consumer", "%v; it tries again", err)
			}
		})
		now := time.Now()
		for r := range fetches.RecordsAll() {
			delay, what := t.arrived(header(r, "id"), now)
			if what == foreign {
				delay = now.Sub(r.Timestamp) // the commit's time, by the clock of Postgres
			}
			if err := show(s, r, delay, what); err != nil {
				return fmt.Errorf("print a record: %w", err)
			}
		}
	}
}

// header is the first header of that name, or empty.
func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func show(s *screen, r *kgo.Record, delay time.Duration, what arrival) error {
	headers := make([]string, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = h.Key + "=" + string(h.Value)
	}
	remark := ""
	switch what {
	case again:
		remark = " AGAIN: same id and position as before"
	case foreign:
		remark = " (not the application's: yours?)"
	case ghost:
		remark = " WRONG: it was rolled back"
	case first:
	}
	return s.record(
		fmt.Sprintf("%s/%d@%d key=%s %s", r.Topic, r.Partition, r.Offset, r.Key, short(r.Value)),
		fmt.Sprintf("%s after commit%s", milliseconds(delay), remark),
		strings.Join(headers, " "),
	)
}

func short(value []byte) string {
	if value == nil {
		return "(tombstone)"
	}
	if text := []rune(string(value)); len(text) > payloadShown {
		return string(text[:payloadShown]) + "…"
	}
	return string(value)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
