package main

import (
	"context"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/cmd/outrider/admin"
	"github.com/outrider-relay/outrider/cmd/outrider/config"
	"github.com/outrider-relay/outrider/sink"
)

func init() { commands = append(commands, runCommand) }

func runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Relay until stopped",
		Long: `Relays the outbox until SIGTERM or SIGINT, which delivers what is in flight
(for at most timeouts.drain) and exits 0. A second signal stops at once.

A relay that finds its slot in use by another of the same name stands by.

Exits with 0 after a clean stop, 31 where not all was delivered in time, 2 for wrong
settings, 10 and 11 where Postgres or Kafka does not take it; with on_blocked: exit
also with 20, 21 or 22 (see outrider resolve). 70 is a bug. The last line says what to do.`,
		Example: `  outrider run -c outrider.yaml
  OUTRIDER_POSTGRES_URL=postgres://relay@localhost/shop outrider run --name orders --kafka localhost:9092`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := loadSettings(cmd)
			if err != nil {
				return err
			}
			return run(cmd.Context(), settings)
		},
	}
	addFlags(cmd.Flags(), relayFlags)
	return cmd
}

// run relays, and logs the last word on why it ended.
func run(ctx context.Context, settings *config.Settings) error {
	pipe := newLogPipe(os.Stderr)
	log := newLogger(settings.Log, pipe)
	go pipe.run()
	defer pipe.close(flushTimeout)
	// A reader of the log that went away must not take the relay with it, undrained.
	signal.Ignore(syscall.SIGPIPE)
	limitMemory(settings.Kafka.MaxInFlightBytes)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopOnSignals(cancel, func(s os.Signal) {
		log.WithLevel(zerolog.FatalLevel).Int("exit_code", exitDrain).Msgf("%s a second time: stopped at once; what was in flight is sent again at the next start", s)
		pipe.close(flushTimeout)
		os.Exit(exitDrain)
	})
	err := relay(ctx, settings, log)
	if err == nil {
		return nil
	}
	code, line := verdict(err)
	log.WithLevel(zerolog.FatalLevel).Int("exit_code", code).Msg(line)
	return &failure{code, err, true}
}

// flushTimeout bounds the wait for a log that nobody reads when the process ends.
const flushTimeout = time.Second

// relay builds the parts and runs them.
func relay(ctx context.Context, settings *config.Settings, log zerolog.Logger) error {
	stats := sink.NewStats()
	cfg, err := sinkConfig(settings, stats, log)
	if err == nil {
		_, err = sink.New(cfg) // templates are checked now, rather than when the first session begins
	}
	if err != nil {
		return &failure{code: exitSettings, err: err}
	}
	r := &observed{Relay: cdc.New(relayConfig(settings, cfg, log)), stats: stats, version: thisBuild().Version}
	endpoint, err := listen(ctx, settings.HTTP.Listen)
	if err != nil {
		return &failure{code: exitSettings, err: err}
	}
	start := log.Info().Str("name", settings.Name).Str("version", r.version)
	if endpoint != nil {
		start = start.Stringer("http", endpoint.Addr())
	}
	start.Msg("outrider starts")
	if err := runBoth(ctx, r, adminServer(settings, r, log), endpoint); err != nil {
		return err
	}
	if st := r.Status().State; st != cdc.Draining { // of what a session before left in flight, this stop knows nothing
		log.Info().Msgf("outrider stopped while not relaying (%s): this tells nothing of what is left in flight", st)
		return nil
	}
	log.Info().Msg("outrider stopped; nothing is left in flight")
	return nil
}

// listen is nil where no endpoint is wanted.
func listen(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	return admin.Listen(ctx, address)
}

// runBoth runs the relay, and beside it the endpoint, which answers until the relay has drained.
func runBoth(ctx context.Context, r *observed, server *admin.Server, l net.Listener) error {
	if l == nil {
		return r.Run(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() {
		err := server.Run(serving, l)
		cancel() // a relay that nobody can see is drained, and ends with this error
		served <- err
	}()
	err := r.Run(ctx)
	stopServing()
	if e := <-served; err == nil {
		err = e
	}
	return err
}
