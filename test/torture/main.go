// Command torture proves the relay where everything that it stands on breaks: a real Postgres with a standby, a real Kafka of
// three nodes, two relays of one name. Writers commit, a nemesis breaks things by a seed, and an independent checker compares
// what was committed with what Kafka holds.
//
//	go run ./test/torture --for 5m                      a seed of its own, which is printed
//	go run ./test/torture --for 1h --seed 7 --json      the same again, as far as processes let it be
//	go run ./test/torture --faults kill-leader,kill-broker
//	go run ./test/torture --list                        what can be broken
//	go run ./test/torture --self-test                   whether the checker finds what it is there for
//
// The program ends with 1 where the relay broke its promise, and with 2 where the run itself failed, which says nothing
// about the relay. (go run makes a 1 of both: build it where that matters.)
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Exit codes beside 0.
const (
	exitViolated = 1
	exitFailed   = 2
)

// options are the command line.
type options struct {
	plan       Plan
	json, list bool
	selfTest   bool
	bugs       []string // of the self-test; none: all
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		os.Exit(exitFailed) // the flag set has said why
	}
	if o.list {
		listFaults(os.Stdout)
		return
	}
	if o.plan.Keep != "" {
		if err := os.MkdirAll(o.plan.Keep, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, "torture:", err)
			os.Exit(exitFailed)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.selfTest {
		os.Exit(checkChecker(ctx, o))
	}
	report, err := run(ctx, o.plan)
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(exitFailed)
	}
	if err := show(report, o.json); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(exitFailed)
	}
	if len(report.Violations) > 0 {
		os.Exit(exitViolated)
	}
}

// checkChecker is the self-test, and gives the exit code.
func checkChecker(ctx context.Context, o options) int {
	escaped, err := selfTest(ctx, o.plan.Seed, o.bugs, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "torture:", err)
		if !errors.Is(err, errControl) {
			return exitFailed
		}
		return exitViolated
	case escaped > 0:
		return exitViolated
	}
	return 0
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("torture", flag.ContinueOnError)
	flags.DurationVar(&o.plan.For, "for", 5*time.Minute, "time for which things break")
	flags.Uint64Var(&o.plan.Seed, "seed", 0, "of what is written and what breaks; 0: one that is chosen and printed")
	flags.IntVar(&o.plan.Rate, "rate", 500, "rows a second, about")
	flags.StringVar(&o.plan.Keep, "keep", "", "folder that keeps what the relays logged, a file a process")
	flags.BoolVar(&o.plan.StopAtFirst, "stop-at-first", false, "end at the first violation")
	flags.StringVar(&o.plan.RelayBinary, "relay", "", "the relay's binary; empty: it is built")
	flags.BoolVar(&o.json, "json", false, "print the report as JSON")
	flags.BoolVar(&o.list, "list", false, "print what can be broken, and end")
	flags.BoolVar(&o.selfTest, "self-test", false, "plant bugs in the relay, one after another, and see that each is found")
	bugs := flags.String("bugs", "", "of the self-test only these, separated by semicolons; empty: all, and a run without any")
	faults := flags.String("faults", "", "only these, separated by commas; empty: all")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.plan.Seed == 0 {
		o.plan.Seed = rand.Uint64N(1_000_000)
	}
	if *bugs != "" {
		o.bugs = strings.Split(*bugs, ";")
	}
	if *faults != "" {
		o.plan.Faults = strings.Split(*faults, ",")
	}
	if _, err = choose(o.plan.Faults); err == nil && o.plan.Rate <= 0 {
		err = fmt.Errorf("--rate %d", o.plan.Rate)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
	}
	return o, err
}

func show(r Report, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Print(r)
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(r)
}
