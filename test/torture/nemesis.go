package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"
)

// fault is something that breaks, and is whole again when it returns.
type fault struct {
	name, does string
	lane       side
	weight     int
	// away says that a server, or a way to one, is taken from all relays that could deliver: no row is owed meanwhile.
	away bool
	// verdict is what the relay must come to, for a person to decide. Empty: it must go on by itself.
	verdict string
	// needs is the least PostgreSQL.
	needs int
	do    func(ctx context.Context, n *nemesis) error
}

// side is what a fault breaks. A nemesis for each breaks one thing after another, so that there are two at once at most.
type side int

const (
	relays  side = iota // and their ways to the servers
	servers             // and what is in them
)

// nemesis breaks things on one side, by a random choice of its own.
type nemesis struct {
	*stage
	rng    *rand.Rand
	faults []fault
	life   context.Context // ends before the run does: then what is broken is mended at once
	turn   int             // of the fault that comes next, where they come in turn
}

// errSkip is that of a fault that could not be made just then.
type errSkip struct{ err error }

func (e *errSkip) Error() string { return e.err.Error() }
func (e *errSkip) Unwrap() error { return e.err }

// skip marks an error as such, unless it is nil.
func skip(err error) error {
	if err == nil {
		return nil
	}
	return &errSkip{err}
}

// Between two faults of a side.
const (
	quietLeast = 200 * time.Millisecond
	quietMost  = 2500 * time.Millisecond
)

// run breaks things until life ends. An error is about the run.
func (n *nemesis) run(ctx context.Context) error {
	for len(n.faults) > 0 {
		n.hold(quietLeast, quietMost)
		if n.life.Err() != nil {
			return nil
		}
		f := n.pick()
		if err := n.inflict(ctx, f); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// pick chooses by weight, or in turn.
func (n *nemesis) pick() *fault {
	if n.plan.InTurn {
		n.turn++
		return &n.faults[(n.turn-1)%len(n.faults)]
	}
	total := 0
	for _, f := range n.faults {
		total += f.weight
	}
	at := n.rng.IntN(total)
	for i := range n.faults {
		if at -= n.faults[i].weight; at < 0 {
			return &n.faults[i]
		}
	}
	return &n.faults[0]
}

func (n *nemesis) inflict(ctx context.Context, f *fault) error {
	if f.verdict != "" {
		n.verdicts.Lock()
		defer n.verdicts.Unlock()
	} else {
		n.verdicts.RLock()
		defer n.verdicts.RUnlock()
	}
	if n.life.Err() != nil { // it has waited for the other side
		return nil
	}
	if f.away {
		defer n.availability.take()()
	}
	began := time.Now()
	err := f.do(ctx, n)
	var skipped *errSkip
	switch {
	case errors.As(err, &skipped):
		n.tally.count(func(r *Report) { r.Skipped[f.name]++ })
		say("could not %s: %v", f.name, err)
		return nil
	case err != nil:
		return err
	}
	n.tally.count(func(r *Report) { r.Faults[f.name]++ })
	say("%-24s %5.1fs", f.name, time.Since(began).Seconds())
	return nil
}

// hold waits for a random time, cut short when life ends.
func (n *nemesis) hold(least, most time.Duration) {
	pause(n.life, least+time.Duration(n.rng.Int64N(int64(most-least+1))))
}

// chance is true once in so many times.
func (n *nemesis) chance(in int) bool { return n.rng.IntN(in) == 0 }

// choose gives the faults of those names; all when none is named.
func choose(names []string) ([]fault, error) {
	if len(names) == 0 {
		return faults, nil
	}
	var chosen []fault
	for _, name := range names {
		all := slices.Concat(faults, staged)
		i := slices.IndexFunc(all, func(f fault) bool { return f.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no fault %q: see --list", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// listFaults prints the table.
func listFaults(out io.Writer) {
	total := 0
	for _, f := range faults {
		total += f.weight
	}
	for _, f := range faults {
		demands := ""
		if f.verdict != "" {
			demands = "; demands a decision: " + f.verdict
		}
		_, _ = fmt.Fprintf(out, "%-26s %4.1f %%  %s%s\n", f.name, 100*float64(f.weight)/float64(total), f.does, demands)
	}
}
