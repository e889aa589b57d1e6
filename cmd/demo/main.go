// Command demo shows a relay at work on one machine: a Postgres and a broker that speaks Kafka's protocol, both embedded,
// an application that writes, the relay, and a consumer that prints each record. It is a program of its own, so that the
// relay's binary links neither server.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
)

// options are the command line.
type options struct {
	rate     float64       // transactions a second
	duration time.Duration // zero: until stopped
	dataDir  string        // empty: a temporary one
	postgres string        // URL or DSN; empty: an embedded server
	kafka    []string      // host:port; empty: an embedded broker
	delivery string        // atLeastOnce or exactlyOnce
}

func main() {
	// Whatever ends us, what was made is removed. The reader of a pipe that goes away is an error of the next print, and
	// a terminal that is closed says so more than once.
	signal.Ignore(syscall.SIGPIPE)
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGHUP)
	defer release()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends us at once
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See rows that an application commits turn into Kafka records",
		Long: `Starts a Postgres and a broker, an application that commits orders with their
events, the relay, and a consumer that prints each record. The first start
downloads Postgres. Records go to standard output, all else to standard error.

Stops at Ctrl-C, and leaves nothing behind.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.rate <= 0 {
				return errors.New("--rate is transactions a second, and more than 0")
			}
			if o.delivery != atLeastOnce && o.delivery != exactlyOnce {
				return fmt.Errorf("--delivery is %s or %s", atLeastOnce, exactlyOnce)
			}
			return run(cmd.Context(), o, newScreen(os.Stdout, os.Stderr), keys(os.Stdin))
		},
		SilenceErrors: true, // main has the last word
		SilenceUsage:  true,
	}
	flags := cmd.Flags()
	flags.Float64Var(&o.rate, "rate", 2, "transactions a second")
	flags.DurationVar(&o.duration, "for", 0, "stop after this time (default: at Ctrl-C)")
	flags.StringVar(&o.dataDir, "data-dir", "", "new or empty `FOLDER` for the embedded Postgres, which stays afterwards (default: a temporary one)")
	flags.StringVar(&o.postgres, "postgres", "", "`URL` of a Postgres to use instead, as a role that may create a database and replicate;\nwal_level must be logical. The demo makes a database of its own and drops it at the end")
	flags.StringSliceVar(&o.kafka, "kafka", nil, "`BROKERS` of a Kafka to use instead, as host:port,... The demo makes a topic of its own and deletes it at the end")
	flags.StringVar(&o.delivery, "delivery", exactlyOnce, "`PROMISE` of the relay: "+exactlyOnce+" or "+atLeastOnce)
	cmd.AddCommand(relayCommand())
	return cmd
}

// keys gives the lines that a person types; nil where nobody can. Its goroutine ends with the process: a read from a
// terminal can't be interrupted.
func keys(in *os.File) <-chan string {
	if !isatty.IsTerminal(in.Fd()) {
		return nil
	}
	typed := make(chan string)
	go scan(in, typed)
	return typed
}

func scan(in io.Reader, typed chan<- string) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		typed <- lines.Text()
	}
}
