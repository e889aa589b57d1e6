package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// latency is the distribution of one way at a rate, in milliseconds.
type latency struct {
	Way  string  `json:"way"`
	Rate int     `json:"rows_per_second"`
	Rows int     `json:"rows"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
	// Of the relay while it held the rate.
	CPU     float64 `json:"relay_cpu_percent,omitempty"`
	PeakRSS int64   `json:"peak_rss_bytes,omitempty"`
}

// writers share a rate among them. Row n is written by writer n modulo writers, and has that for its key.
const writers = 4

// warmUp is the time, in seconds, until connections are open and caches filled, which is not counted.
const warmUp = 2

// latency measures, at an open-loop rate of single-row transactions, the time from a commit's return to the row's arrival
// at a consumer; and beside it what the broker alone takes for as many records of the same size, from produce to consume.
func (b *bench) latency(ctx context.Context, rate int) (ways []latency, err error) {
	s, err := b.newStage(ctx, b.deliveries[0])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	rows := rate * (warmUp + int(b.lasting.Seconds()))

	b.say("%d rows/s: the broker alone", rate)
	floor, err := s.floor(ctx, rate, rows)
	if err != nil {
		return nil, fmt.Errorf("the broker alone: %w", err)
	}
	b.say("%d rows/s: the relay", rate)
	relay, err := s.startRelaying(ctx)
	if err != nil {
		return nil, err
	}
	defer relay.Kill()
	before, err := relay.Usage()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	through, err := s.throughRelay(ctx, rate, rows)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, relay.Log())
	}
	after, err := relay.Usage()
	if err != nil {
		return nil, err
	}
	relayed := distribution("commit to consumer", rate, through)
	relayed.CPU = 100 * (after.CPU - before.CPU).Seconds() / time.Since(began).Seconds()
	relayed.PeakRSS = after.PeakRSS
	if err := stop(ctx, relay); err != nil {
		return nil, err
	}
	return []latency{distribution("produce to consumer, no relay", rate, floor), relayed}, nil
}

func distribution(way string, rate int, times []time.Duration) latency {
	slices.Sort(times)
	ms := func(p float64) float64 { return float64(percentile(times, p).Microseconds()) / 1000 }
	return latency{Way: way, Rate: rate, Rows: len(times), P50: ms(50), P99: ms(99), P999: ms(99.9), Max: ms(100)}
}

// throughRelay writes rows at the rate and consumes them.
func (s *stage) throughRelay(ctx context.Context, rate, rows int) ([]time.Duration, error) {
	committed := make([]time.Time, rows)
	group, groupCtx := errgroup.WithContext(ctx)
	var arrived []time.Time
	group.Go(func() (err error) { arrived, err = s.consume(groupCtx, s.topic(), rows); return err })
	began := time.Now()
	for w := range writers {
		group.Go(func() error {
			conn, err := pgx.Connect(groupCtx, s.bench.pg.DatabaseURL(s.name))
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close(context.WithoutCancel(groupCtx)) }()
			return pace(groupCtx, began, rate, rows, w, func(n int) error {
				_, err := conn.Exec(groupCtx, `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload) values ($1, $2, 'Written', $3)`,
					s.name, strconv.Itoa(w), s.payload(n))
				committed[n] = time.Now()
				return err
			})
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return between(committed, arrived, rate), nil
}

// floor produces records at the rate and consumes them.
func (s *stage) floor(ctx context.Context, rate, rows int) ([]time.Duration, error) {
	topic := s.topic() + ".floor"
	if err := s.createTopic(ctx, topic); err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bench.kafka.Brokers()...), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	produced := make([]time.Time, rows)
	group, groupCtx := errgroup.WithContext(ctx)
	var arrived []time.Time
	group.Go(func() (err error) { arrived, err = s.consume(groupCtx, topic, rows); return err })
	began := time.Now()
	failed := make(chan error, 1)
	for w := range writers {
		group.Go(func() error {
			return pace(groupCtx, began, rate, rows, w, func(n int) error {
				produced[n] = time.Now()
				cl.Produce(groupCtx, &kgo.Record{Key: []byte(strconv.Itoa(w)), Value: s.payload(n)}, func(_ *kgo.Record, err error) {
					if err != nil {
						select {
						case failed <- err:
						default:
						}
					}
				})
				return nil
			})
		})
	}
	err = group.Wait()
	select {
	case err = <-failed:
	default:
	}
	if err != nil {
		return nil, err
	}
	_, err = s.admin.DeleteTopics(ctx, topic)
	return between(produced, arrived, rate), err
}

// payload is row n's.
func (s *stage) payload(n int) []byte {
	return fmt.Appendf(nil, `{"n": %d, "note": "%0*d"}`, n, max(1, s.bench.payload-30), 0)
}

// pace calls do for every row of writer w when it is due. A writer that is late is not forgiven: what it does late counts
// from when it was done, and the rate is made up for.
func pace(ctx context.Context, began time.Time, rate, rows, w int, do func(n int) error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := w; n < rows; n += writers {
		timer.Reset(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		if err := do(n); err != nil {
			return err
		}
	}
	return nil
}

// consume notes when each row arrives, until all have. A row that is repeated, or passes one of its key, is an error.
func (s *stage) consume(ctx context.Context, topic string, rows int) ([]time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, s.bench.lasting+warmUp*time.Second+time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bench.kafka.Brokers()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	arrived := make([]time.Time, rows)
	last := [writers]int{}
	for w := range last {
		last[w] = w - writers
	}
	for left := rows; left > 0; {
		fetches := cl.PollFetches(ctx)
		now := time.Now()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%d of %d rows have not arrived", left, rows)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			var payload struct{ N int }
			if e := json.Unmarshal(r.Value, &payload); e != nil || payload.N < 0 || payload.N >= rows {
				err = fmt.Errorf("%s/%d@%d is no row of ours", r.Topic, r.Partition, r.Offset)
				return
			}
			w := payload.N % writers
			if payload.N != last[w]+writers {
				err = fmt.Errorf("%s/%d@%d: row %d after row %d", r.Topic, r.Partition, r.Offset, payload.N, last[w])
			}
			last[w] = payload.N
			arrived[payload.N] = now
			left--
		})
		if err != nil {
			return nil, err
		}
	}
	return arrived, nil
}

// between gives the time from each from to its to, once the first seconds are over. A row may be consumed before its
// writer learns that it is committed.
func between(from, to []time.Time, rate int) []time.Duration {
	from, to = from[warmUp*rate:], to[warmUp*rate:]
	times := make([]time.Duration, len(from))
	for i := range from {
		times[i] = max(0, to[i].Sub(from[i]))
	}
	return times
}
