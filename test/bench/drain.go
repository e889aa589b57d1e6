package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// drain is what reading one backlog took.
type drain struct {
	backlog
	Reader    string `json:"reader"`
	Delivery  string `json:"delivery,omitempty"` // none: it delivers nowhere
	Transport string `json:"transport"`          // to Postgres
	Round     int    `json:"round"`
	// Seconds from the start of the process until the last row was there, and until the first.
	Seconds  float64 `json:"seconds"`
	First    float64 `json:"first_row_seconds,omitempty"`
	RowsPerS float64 `json:"rows_per_second"`
	MBPerS   float64 `json:"mb_per_second"` // of payload
	// Flowing is the rate from the first row on, for who starts seldom: a JVM needs seconds for it.
	Flowing float64 `json:"rows_per_second_from_first_row,omitempty"`
	// CPU seconds per million rows.
	ReaderCPU    float64  `json:"reader_cpu_s_per_million"`
	WalsenderCPU float64  `json:"walsender_cpu_s_per_million"`
	BrokerCPU    float64  `json:"broker_cpu_s_per_million"`
	PeakRSS      int64    `json:"peak_rss_bytes"`
	Findings     findings `json:"findings"`
}

// took fills in what a time is in rates.
func (d *drain) took(seconds float64, x extent) {
	d.Seconds, d.RowsPerS = seconds, float64(d.Rows)/seconds
	d.MBPerS = d.RowsPerS * x.payload / 1e6
	if d.First > 0 && seconds > d.First {
		d.Flowing = float64(d.Rows) / (seconds - d.First)
	}
}

// perMillion is a time of CPU for so many rows, per million.
func (l backlog) perMillion(t time.Duration) float64 { return t.Seconds() * 1e6 / float64(l.Rows) }

// drain lets every reader read the same backlog, each from a slot of its own, one after the other. Who goes first alternates.
func (b *bench) drain(ctx context.Context, load backlog, round int) (drains []drain, err error) {
	s, err := b.newStage(ctx, load.Partitions)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()

	var x extent
	var readers []func() (drain, error)
	for _, transport := range b.transports {
		if b.recvlogical == "" {
			continue
		}
		slot := s.name + "_recvlogical_" + transport
		if err := s.createSlot(ctx, slot); err != nil {
			return nil, err
		}
		readers = append(readers, func() (drain, error) { return s.recvlogical(ctx, load, x, transport, slot) })
	}
	var relays []*relay
	defer func() {
		for _, r := range relays {
			err = errors.Join(err, r.remove())
		}
	}()
	for _, c := range b.contestants {
		r, err := s.prepare(ctx, c)
		if err != nil {
			return nil, err
		}
		relays = append(relays, r)
		readers = append(readers, func() (drain, error) { return r.drain(ctx, load, x) })
	}
	b.say("%s, round %d: writing %d rows", load, round+1, load.Rows)
	if x, err = load.write(ctx, s); err != nil {
		return nil, fmt.Errorf("write the backlog: %w", err)
	}
	if round%2 == 1 {
		slices.Reverse(readers)
	}
	for _, read := range readers {
		d, err := read()
		if err != nil {
			return nil, err
		}
		d.Round = round + 1
		b.say("%s, round %d: %s (%s) read %.0f rows/s", load, d.Round, d.Reader, d.Transport, d.RowsPerS)
		drains = append(drains, d)
	}
	return drains, nil
}

// drain measures a relay from the start of its process until Kafka has every row, and then checks what is there.
func (r *relay) drain(ctx context.Context, load backlog, x extent) (d drain, err error) {
	m, err := r.meter(ctx)
	if err != nil {
		return d, err
	}
	if err := r.launch(); err != nil {
		return d, err
	}
	defer r.program.Kill()
	if err := m.follow(ctx, load.Rows); err != nil {
		return d, err
	}
	if err := r.stop(); err != nil {
		return d, err
	}
	d = drain{
		backlog: load, Reader: r.adapter.Name, Delivery: r.Delivery, Transport: r.transport,
		First: m.first.Seconds(), PeakRSS: m.reader.PeakRSS, ReaderCPU: load.perMillion(m.reader.CPU),
		WalsenderCPU: load.perMillion(m.walsender.CPU), BrokerCPU: load.perMillion(m.broker.CPU - m.brokerBefore.CPU),
	}
	d.took(m.last.Seconds(), x)
	d.Findings, err = r.stage.check(ctx, r, load.Rows)
	return d, err
}

const (
	// settle is how long a topic that has a record for every row must rest until the backlog counts as drained. A relay that
	// repeats rows has as many records before it has all rows, and what comes too late to be waited for is told as lost.
	settle = 2 * time.Second
	// stillness is how long nothing may come before that: the server spills a huge transaction before it sends the first row.
	stillness = 5 * time.Minute
)

// meter follows a relay's topic, and notes what was used until its last record came.
type meter struct {
	relay       *relay
	before      int64 // records in the topic
	began       time.Time
	first, last time.Duration // since then, until a record came

	brokerBefore              harness.Usage
	reader, walsender, broker harness.Usage // when the last record came
	sender                    int           // the walsender's process, once it is known
}

// meter begins to measure.
func (r *relay) meter(ctx context.Context) (m *meter, err error) {
	m = &meter{relay: r}
	if m.before, err = r.stage.delivered(ctx, r.Topic); err != nil {
		return nil, err
	}
	m.brokerBefore, err = harness.UsageOf(r.stage.bench.kafka.Nodes[0].PID())
	m.began = time.Now()
	return m, err
}

// follow returns when the topic has a record for each row, and rests. A relay that stops to deliver before is a finding, not
// an error, unless it has delivered nothing.
func (m *meter) follow(ctx context.Context, rows int) error {
	const pace = 20 * time.Millisecond
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for seen := int64(0); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := m.relay.ended(); err != nil {
			return err
		}
		n, err := m.relay.stage.delivered(ctx, m.relay.Topic)
		if err != nil {
			return err
		}
		now := time.Since(m.began)
		switch n -= m.before; {
		case n > seen:
			if seen == 0 {
				m.first = now
			}
			seen, m.last = n, now
			if err := m.read(ctx); err != nil {
				return err
			}
		case n >= int64(rows) && now-m.last > settle:
			return nil
		case now-m.last > stillness && n == 0:
			return fmt.Errorf("%s has delivered nothing within %s\n%s", m.relay.contestant, stillness, m.relay.said())
		case now-m.last > stillness:
			return nil
		}
	}
}

// read notes what has been used by now.
func (m *meter) read(ctx context.Context) (err error) {
	if m.sender == 0 {
		if m.sender, err = m.relay.stage.walsender(ctx, m.relay.berth.Slot); err != nil {
			return err
		}
	}
	if m.sender != 0 {
		if u, err := harness.UsageOf(m.sender); err == nil { // else it has ended: what was seen last counts
			m.walsender = u
		}
	}
	if m.reader, err = harness.UsageOf(m.relay.program.PID()); err != nil {
		return errors.Join(m.relay.ended(), err)
	}
	m.broker, err = harness.UsageOf(m.relay.stage.bench.kafka.Nodes[0].PID())
	return err
}
