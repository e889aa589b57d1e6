package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// moments are those of every row.
type moments struct {
	due, began, done []time.Time // when it was to be written, and was; writer n modulo writers writes row n's
	arrived          []time.Time // at the consumer, which writes them
}

// writer gives what writes row n, and what to call at the end. Each goroutine that writes has its own.
type writer func(ctx context.Context) (write func(n int) error, end func(), err error)

// play has the writers write at the rate, and a consumer note what arrives. It returns when all rows have.
func (s *stage) play(ctx context.Context, topic string, a *adapter, rate, rows int, by writer) (*moments, findings, error) {
	m := &moments{due: make([]time.Time, rows), began: make([]time.Time, rows), done: make([]time.Time, rows), arrived: make([]time.Time, rows)}
	group, ctx := errgroup.WithContext(ctx)
	var f findings
	group.Go(func() (err error) { f, err = s.consume(ctx, topic, a, m); return err })
	began := time.Now()
	for n := range m.due {
		m.due[n] = began.Add(time.Duration(n) * time.Second / time.Duration(rate))
	}
	for w := range writers {
		group.Go(func() error {
			write, end, err := by(ctx)
			if err != nil {
				return err
			}
			defer end()
			return m.pace(ctx, w, sleepUntil, write)
		})
	}
	err := group.Wait()
	return m, f, err
}

// pace writes every row of writer w when it is due, or as soon as the one before it has been written.
func (m *moments) pace(ctx context.Context, w int, sleep func(until time.Time), write func(n int) error) error {
	for n := w; n < len(m.due); n += writers {
		sleep(m.due[n])
		if err := ctx.Err(); err != nil {
			return err
		}
		m.began[n] = time.Now()
		if err := write(n); err != nil {
			return err
		}
		m.done[n] = time.Now()
	}
	return nil
}

// key is row n's.
func key(n int) string { return "k" + strconv.Itoa(n%keys) }

// payload is row n's.
func (s *stage) payload(n int) []byte {
	const besideNote = 30 // bytes
	return fmt.Appendf(nil, `{"n": %d, "note": "%0*d"}`, n, max(1, s.bench.payloads[0]-besideNote), 0)
}

// committer commits rows as applications do: in a connection over TCP, a transaction each.
func (s *stage) committer(ctx context.Context) (func(n int) error, func(), error) {
	conn, err := pgx.Connect(ctx, s.bench.pg.DatabaseURL(s.name))
	if err != nil {
		return nil, nil, err
	}
	write := func(n int) error {
		_, err := conn.Exec(ctx, `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload) values ($1, $2, 'Written', $3)`,
			aggregateType, key(n), s.payload(n))
		return err
	}
	return write, func() { _ = conn.Close(context.WithoutCancel(ctx)) }, nil
}

// plain is how to read records that hold a row's payload as it is.
var plain = &adapter{Number: "n", path: []string{"n"}}

// consume notes when each row arrives, until all have.
func (s *stage) consume(ctx context.Context, topic string, a *adapter, m *moments) (findings, error) {
	ctx, cancel := context.WithTimeout(ctx, s.bench.lasting+warmUp*time.Second+time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bench.kafka.Brokers()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return findings{}, err
	}
	defer cl.Close()
	t := newTally(len(m.arrived))
	for left := len(m.arrived); left > 0; {
		fetches := cl.PollFetches(ctx)
		now := time.Now()
		if ctx.Err() != nil {
			return findings{}, fmt.Errorf("%d of %d rows have not arrived", left, len(m.arrived))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if n, first := t.record(r, a); first {
				m.arrived[n] = now
				left--
			}
		})
	}
	return t.finish(), nil
}

// latency is the distribution of the time from each from to the arrival, once the first seconds are over.
func (m *moments) latency(rate int, from []time.Time) latency {
	skip := warmUp * rate
	own, due, late := between(from[skip:], m.arrived[skip:]), between(m.due[skip:], m.arrived[skip:]), between(m.due[skip:], m.began[skip:])
	return latency{
		Rate: rate, Rows: len(own),
		P50: percentile(own, 500), P99: percentile(own, 990), P999: percentile(own, 999), Max: percentile(own, 1000),
		DueP50: percentile(due, 500), DueP99: percentile(due, 990), DueP999: percentile(due, 999), LateP99: percentile(late, 990),
	}
}

// between gives the sorted times from each from to its to. A row may be consumed before its writer learns that it is committed.
func between(from, to []time.Time) []time.Duration {
	times := make([]time.Duration, len(from))
	for i := range from {
		times[i] = max(0, to[i].Sub(from[i]))
	}
	slices.Sort(times)
	return times
}

// percentile of sorted times, in milliseconds: the smallest that so many in a thousand of them do not exceed.
func percentile(sorted []time.Duration, perMille int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*perMille + 999) / 1000
	return float64(sorted[max(1, rank)-1].Microseconds()) / 1000
}
