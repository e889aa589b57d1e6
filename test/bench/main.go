// Command bench measures relays, end to end on a real Postgres and a real Kafka broker, beside pg_recvlogical reading the same
// log to nowhere. Loss, repetition and order are checked in the run that gives a figure. The relay of this repository is one
// that an adapter describes (adapters/outrider.yaml), like any other (adapters/README.md).
//
//	go run ./test/bench                                               tables, after some minutes
//	go run ./test/bench --full --json bench.json                      every scene, an hour and more
//	go run ./test/bench --rows 0 --single 0                           latency alone
//	go run ./test/bench --rates "" --delivery exactly-once,at-least-once --rounds 3
//	go run ./test/bench --rates "" --rows 0 --single 0 --huge 10000000
//	go run ./test/bench --adapter outrider,./other.yaml               beside another relay
//	go run ./test/bench --from bench.json --svg bench.svg             a chart of what was measured before
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/outrider-relay/outrider/test/harness"
)

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures, or takes what was measured before, and tells it. Figures of a relay that broke its promise are told too, and
// are an error; so are those of a run that ended early, but no file is written of them.
func run(ctx context.Context, o options) error {
	var r *results
	var err error
	if o.from != "" {
		r, err = readResults(o.from)
	} else {
		r, err = measure(ctx, o)
	}
	switch {
	case err == nil:
		return errors.Join(r.tell(o), r.broken())
	case r != nil:
		return errors.Join(err, r.print(os.Stdout))
	}
	return err
}

// measure starts the servers and plays every scene. After an error it gives what was measured before.
func measure(ctx context.Context, o options) (r *results, err error) {
	b := &bench{options: o}
	busy, err := busyCPUs(ctx)
	if err != nil {
		return nil, err
	}
	if busy > quiet {
		b.say("others use %.0f %% of the CPUs: what is measured now says little", 100*busy)
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.start(ctx); err != nil {
		return nil, err
	}
	if err := b.warm(ctx); err != nil {
		return nil, fmt.Errorf("warm the broker up: %w", err)
	}
	r = &results{Postgres: b.pg.Major, Kafka: b.kafka.Version}
	r.Machine.CPUs, r.Machine.Go, r.Machine.Busy = runtime.NumCPU(), runtime.Version(), busy
	for _, load := range o.backlogs() {
		for round := range o.rounds {
			drains, err := b.drain(ctx, load, round)
			if err != nil {
				return r, fmt.Errorf("drain a backlog (%s, round %d): %w", load, round+1, err)
			}
			r.Drains = append(r.Drains, drains...)
		}
	}
	for _, rate := range o.rates {
		latencies, err := b.latency(ctx, rate)
		if err != nil {
			return r, fmt.Errorf("latency at %d rows/s: %w", rate, err)
		}
		r.Latencies = append(r.Latencies, latencies...)
	}
	return r, nil
}

// bench is the servers under measurement.
type bench struct {
	options
	pg          *harness.Postgres
	kafka       *harness.Kafka
	outrider    string // the relay's binary
	recvlogical string // path; empty: there is none to compare with
	stages      int    // so far: a number names each
}

func (b *bench) start(ctx context.Context) (err error) {
	if b.recvlogical = findRecvlogical(); b.recvlogical == "" {
		b.say("no pg_recvlogical to compare with: apt-get install postgresql-client")
	}
	b.say("starting Postgres and Kafka")
	if b.pg, err = harness.StartPostgres(ctx, harness.PostgresOptions{Settings: map[string]string{
		"shared_buffers": "256MB", "max_wal_size": "8GB", "autovacuum": "off", "max_replication_slots": "60", "max_wal_senders": "60",
	}}); err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	if b.kafka, err = harness.StartKafka(ctx, harness.KafkaOptions{}); err != nil {
		return fmt.Errorf("start Kafka: %w", err)
	}
	b.outrider, err = harness.Build()
	return err
}

func (b *bench) close() error {
	var errs []error
	if b.pg != nil {
		errs = append(errs, b.pg.Close())
	}
	if b.kafka != nil {
		errs = append(errs, b.kafka.Close())
	}
	return errors.Join(append(errs, harness.RemoveBuild())...)
}

// say tells whoever waits what is being done.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
