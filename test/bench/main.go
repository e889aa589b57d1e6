// Command bench measures the relay's own binary, end to end on a real Postgres and a real Kafka broker, beside
// pg_recvlogical reading the same log to nowhere. Every figure comes from a run in which loss, repetition and order
// were checked as well.
//
//	go run ./test/bench                         a table
//	go run ./test/bench --json --rounds 3       the same as JSON, three times
//	go run ./test/bench --rows 0 --single 0     only latency
//	go run ./test/bench --delivery exactly-once,at-least-once --rounds 3 --rates ""
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// options say what is measured.
type options struct {
	rows, single int           // of the backlogs: in transactions of a thousand, and of one
	payload      int           // bytes of jsonb, about
	rounds       int           // of each backlog
	rates        []int         // rows a second
	lasting      time.Duration // of each rate
	transport    string        // of both readers: unix or tcp
	deliveries   []string      // the relay's kafka.delivery: backlogs are drained under each, latency is measured under the first
	json         bool
}

// results are all that was measured.
type results struct {
	Machine struct {
		CPUs int    `json:"cpus"`
		Go   string `json:"go"`
	} `json:"machine"`
	Postgres  int       `json:"postgres"`
	Kafka     string    `json:"kafka"`
	Transport string    `json:"transport"`
	Drains    []drain   `json:"drains"`
	Latencies []latency `json:"latencies"`
}

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(2) // the flag set has said why
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rows, "rows", 1_000_000, "rows of the backlog of large transactions; 0: none")
	flags.IntVar(&o.single, "single", 300_000, "rows of the backlog of single-row transactions; 0: none")
	flags.IntVar(&o.payload, "payload", 300, "bytes of each row's jsonb, about")
	flags.IntVar(&o.rounds, "rounds", 1, "rounds of each backlog; who goes first alternates")
	flags.DurationVar(&o.lasting, "for", 20*time.Second, "time that each rate of the latency test is held")
	flags.StringVar(&o.transport, "transport", "unix", "unix or tcp, to Postgres")
	deliveries := flags.String("delivery", "exactly-once", "the relay's kafka.delivery; exactly-once,at-least-once to compare them")
	flags.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	rates := flags.String("rates", "1000,5000", "rows a second at which latency is measured; empty: none")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.deliveries = strings.Split(*deliveries, ",")
	for text := range strings.SplitSeq(*rates, ",") {
		if text == "" {
			continue
		}
		rate, err := strconv.Atoi(text)
		if err == nil && rate <= 0 {
			err = fmt.Errorf("%d rows a second", rate)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "--rates:", err)
			return o, err
		}
		o.rates = append(o.rates, rate)
	}
	return o, nil
}

// run starts the servers, measures, and prints.
func run(ctx context.Context, o options) (err error) {
	b := &bench{options: o}
	defer func() {
		if closeErr := b.close(); err == nil {
			err = closeErr
		}
	}()
	if err := b.start(ctx); err != nil {
		return err
	}
	r := results{Postgres: b.pg.Major, Kafka: b.kafka.Version, Transport: o.transport}
	r.Machine.CPUs, r.Machine.Go = runtime.NumCPU(), runtime.Version()
	for _, load := range []workload{{"bulk", o.rows, 1000}, {"single", o.single, 1}} {
		for round := range o.rounds {
			if load.rows == 0 {
				continue
			}
			for _, delivery := range o.deliveries {
				drains, err := b.drain(ctx, load, round, delivery)
				if err != nil {
					return fmt.Errorf("drain a backlog (%s, round %d, %s): %w", load.name, round+1, delivery, err)
				}
				r.Drains = append(r.Drains, drains...)
			}
		}
	}
	for _, rate := range o.rates {
		l, err := b.latency(ctx, rate)
		if err != nil {
			return fmt.Errorf("latency at %d rows/s: %w", rate, err)
		}
		r.Latencies = append(r.Latencies, l...)
	}
	if o.json {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(r)
	}
	return r.print(os.Stdout)
}

// bench is the servers under measurement.
type bench struct {
	options
	pg    *harness.Postgres
	kafka *harness.Kafka
	runs  int // names what each measurement has for itself
}

func (b *bench) start(ctx context.Context) (err error) {
	b.say("starting Postgres and Kafka")
	if b.pg, err = harness.StartPostgres(ctx, harness.PostgresOptions{Settings: map[string]string{
		"shared_buffers": "256MB", "max_wal_size": "8GB", "autovacuum": "off",
	}}); err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	if b.kafka, err = harness.StartKafka(ctx, harness.KafkaOptions{}); err != nil {
		return fmt.Errorf("start Kafka: %w", err)
	}
	_, err = harness.Build()
	return err
}

func (b *bench) close() error {
	var first error
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	if b.pg != nil {
		note(b.pg.Close())
	}
	if b.kafka != nil {
		note(b.kafka.Close())
	}
	note(harness.RemoveBuild())
	return first
}

// say tells whoever waits what is being done.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
