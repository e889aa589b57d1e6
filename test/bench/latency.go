package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/test/harness"
)

// latency is the distribution of one way at a rate, in milliseconds.
type latency struct {
	Reader   string `json:"reader"` // noRelay: the broker alone
	Delivery string `json:"delivery,omitempty"`
	Rate     int    `json:"rows_per_second"`
	Rows     int    `json:"rows"`
	// P50 and so on are from a commit's return until a consumer has the row.
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
	// DueP50 and so on are from when the row was to be written by the rate: a stall of the writers, which has fewer rows
	// written while it lasts, hides nothing of itself there.
	DueP50  float64 `json:"due_p50_ms"`
	DueP99  float64 `json:"due_p99_ms"`
	DueP999 float64 `json:"due_p999_ms"`
	// LateP99 is how late the writers began; where that is much, the machine cannot hold the rate.
	LateP99 float64 `json:"writers_late_p99_ms"`
	// Of the relay while it held the rate.
	CPU      float64  `json:"relay_cpu_percent,omitempty"`
	PeakRSS  int64    `json:"peak_rss_bytes,omitempty"`
	Findings findings `json:"findings"`
}

// noRelay is the way of records that the writers produce themselves.
const noRelay = "no relay: produce to consumer"

// writers share a rate among them. Row n is written by writer n modulo writers; since keys is a multiple of their number, a
// key has one writer, and its rows are committed in order.
const writers = 4

// warmUp is the time, in seconds, until connections are open and caches filled, which is not counted.
const warmUp = 2

// latency measures, at an open-loop rate of single-row transactions, how long each relay takes from a commit to a consumer; and
// beside them what the broker alone takes for as many records of the same size.
//
// The writers wait for no relay, and a late one is not forgiven: it makes up for what it is behind. So a stall of a relay
// is in the figures of every row that was committed meanwhile. What a relay can do is take CPU from the writers; that is in
// the figures from the time that a row was due, and in how late the writers were.
func (b *bench) latency(ctx context.Context, rate int) (all []latency, err error) {
	s, err := b.newStage(ctx, slices.Max(b.partitions))
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
	all = append(all, floor)
	for i, c := range b.contestants {
		if i > 0 && c.adapter == b.contestants[i-1].adapter {
			continue // under its first delivery, over its first transport
		}
		if c.Number == none {
			b.say("%s: its records do not tell their row, so no latency", c)
			continue
		}
		b.say("%d rows/s: %s", rate, c)
		l, err := s.relayed(ctx, c, rate, rows)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c, err)
		}
		all = append(all, l)
	}
	return all, nil
}

// relayed measures a relay.
func (s *stage) relayed(ctx context.Context, c contestant, rate, rows int) (l latency, err error) {
	r, err := s.prepare(ctx, c)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	if err := r.start(ctx); err != nil {
		return l, err
	}
	before, err := harness.UsageOf(r.program.PID())
	if err != nil {
		return l, err
	}
	began := time.Now()
	m, _, err := s.play(ctx, r.Topic, c.adapter, rate, rows, s.committer)
	if err != nil {
		return l, fmt.Errorf("%w\n%s", err, r.said())
	}
	after, err := harness.UsageOf(r.program.PID())
	if err != nil {
		return l, err
	}
	l = m.latency(rate, m.done)
	l.Reader, l.Delivery, l.PeakRSS = c.Name, c.delivery, after.PeakRSS
	l.CPU = 100 * (after.CPU - before.CPU).Seconds() / time.Since(began).Seconds()
	if err := r.stop(); err != nil {
		return l, err
	}
	l.Findings, err = s.check(ctx, r, rows)
	return l, err
}

// floor measures the broker alone: records that the writers produce themselves.
func (s *stage) floor(ctx context.Context, rate, rows int) (l latency, err error) {
	topic := s.name + ".floor"
	if err := s.createTopic(ctx, topic); err != nil {
		return l, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bench.kafka.Brokers()...), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0))
	if err != nil {
		return l, err
	}
	defer cl.Close()
	produced := kgo.AbortingFirstErrPromise(cl)
	produce := func(n int) error {
		cl.Produce(ctx, &kgo.Record{Key: []byte(key(n)), Value: s.payload(n)}, produced.Promise())
		return nil
	}
	m, f, err := s.play(ctx, topic, plain, rate, rows, func(context.Context) (func(n int) error, func(), error) { return produce, func() {}, nil })
	if err := errors.Join(err, produced.Err()); err != nil {
		return l, err
	}
	l = m.latency(rate, m.began)
	l.Reader, l.Findings = noRelay, f
	return l, nil
}
