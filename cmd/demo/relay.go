package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/cmd/outrider/admin"
	"github.com/outrider-relay/outrider/sink"
)

// relaySettings is what the relay is told on its standard input, where no list of processes shows a password.
type relaySettings struct {
	Postgres string
	Brokers  []string
	Delivery string
}

// What a relay may promise.
const (
	atLeastOnce = "at-least-once"
	exactlyOnce = "exactly-once"
)

// pageDescriptor is where the relay finds the status page's listening socket, which outlives it.
const pageDescriptor = 3

// relayCommand is the relay as a process of its own, so that it can be killed as a relay would be.
func relayCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "relay",
		Short:  "Be the demo's relay (used by the demo itself)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return relay(cmd.Context())
		},
	}
}

// relay relays until SIGTERM or the end of standard input, which comes also when the demo is killed. Then it drains.
func relay(ctx context.Context) error {
	// Ctrl-C reaches every process of the terminal; the demo decides when the relay stops.
	ctx = context.WithoutCancel(ctx)
	signal.Ignore(os.Interrupt)
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer cancel()

	input := json.NewDecoder(os.Stdin)
	var settings relaySettings
	if err := input.Decode(&settings); err != nil {
		return fmt.Errorf("the demo starts its relay by itself; run it without arguments (%w)", err)
	}
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	file := os.NewFile(pageDescriptor, "status page")
	page, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("status page: %w", err)
	}
	_ = file.Close()

	log := zerolog.Nop() // the demo shows the status, which says the same
	stats := sink.NewStats()
	r := &counted{cdc.New(relayConfig(settings, stats, log)), stats}
	server := &admin.Server{
		Relay:   r,
		Metrics: admin.Registry(r, prometheus.Labels{"version": "demo", "commit": "", "go": runtime.Version()}, stats),
		Log:     log,
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx, page) })
	g.Go(func() error { defer cancel(); return r.Run(ctx) })
	return g.Wait()
}

// relayConfig is what `outrider run --name demo` would make of its defaults.
func relayConfig(settings relaySettings, stats *sink.Stats, log zerolog.Logger) cdc.Config {
	return cdc.Config{
		Name:     "demo",
		Instance: fmt.Sprintf("demo-%d", os.Getpid()),
		Delivery: settings.Delivery,
		Postgres: cdc.Postgres{
			URL: settings.Postgres, Publication: "outrider", Slot: slotName, Create: true, Tables: []string{"public.outbox"},
		},
		NewSink: func(ledger *cdc.Ledger) (cdc.Sink, error) {
			cfg := sink.Config{Name: "demo", Brokers: settings.Brokers, OnPoison: sink.Stop, Stats: stats, Log: log}
			if settings.Delivery == exactlyOnce {
				cfg.Ledger = ledger
			}
			k, err := sink.New(cfg)
			if err != nil {
				return nil, err // and no nil *Kafka in a Sink that is not nil
			}
			return k, nil
		},
		ExitOnBlocked: true,
		Log:           log,
	}
}

// counted is a relay whose status holds what its sinks have counted.
type counted struct {
	*cdc.Relay
	stats *sink.Stats
}

// Status implements admin.Relay.
func (c *counted) Status() cdc.Status {
	st := c.Relay.Status()
	st.Version = "demo"
	st.Records.Poison = c.stats.Poison()
	st.Topics = make(map[string]cdc.TopicStat)
	for name, count := range c.stats.Topics() {
		st.Topics[name] = cdc.TopicStat{Records: count.Records, Bytes: count.Bytes}
		st.Records.Relayed += count.Records
	}
	return st
}
