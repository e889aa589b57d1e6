package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
)

// Plan is what a run is to do. A run depends on its seed as far as processes and networks let it.
type Plan struct {
	Seed uint64
	// For is how long things break. Start and end take a minute more.
	For time.Duration
	// Rate is that of the rows, a second.
	Rate int
	// Faults are the names of those that happen; none: all.
	Faults []string
	// InTurn has those of each side happen one after another, and not by chance.
	InTurn bool
	// StopAtFirst ends the run at the first violation.
	StopAtFirst bool
	// RelayBinary is the relay; empty: it is built. RelayEnv is added to its environment.
	RelayBinary string
	RelayEnv    []string
	// BetweenBrokers puts proxies between the nodes of Kafka, which faults that need them are chosen with.
	BetweenBrokers bool
	// Keep is a folder for what the relays log; empty: nothing is kept.
	Keep string
}

// settlePatience is how long everything may take to be delivered when nothing is broken any more.
const settlePatience = time.Minute

// run carries out a plan. An error is about the run itself, and says nothing about the relay.
func run(ctx context.Context, p Plan) (_ Report, err error) {
	s, err := newStage(ctx, p)
	defer func() { err = errors.Join(err, s.close()) }()
	if err != nil {
		return Report{}, err
	}
	say("seed %d, for %s", p.Seed, p.For)
	if err := s.torture(ctx); err != nil {
		return Report{}, err
	}
	return s.tally.report, nil
}

// torture breaks things while the writers write, and then sees that everything comes.
func (s *stage) torture(ctx context.Context) error {
	observers, stop := context.WithCancel(ctx)
	defer stop()
	watching, observing := errgroup.WithContext(observers)
	for _, observe := range []func(context.Context) error{
		s.witness.run, s.live, s.watch,
		func(ctx context.Context) error { return s.checker.read(ctx, s.cluster.Brokers()) },
	} {
		watching.Go(func() error { return observe(observing) })
	}
	err := s.work(observing)
	if err == nil {
		err = s.settle(observing)
	}
	stop()
	watched := watching.Wait()
	early := s.plan.StopAtFirst && s.tally.violated() // what was broken may not be whole yet
	if err = errors.Join(watched, err); err == nil && !early {
		err = s.checker.compareCommitted(ctx, s.cluster.Brokers())
	}
	return err
}

// work has the writers write, and things break, for the time of the plan.
func (s *stage) work(ctx context.Context) error {
	life, end := context.WithTimeout(ctx, s.plan.For)
	defer end()
	if err := s.database.followSlots(ctx); err != nil {
		return err
	}
	for _, seat := range s.seats {
		if err := seat.start(); err != nil {
			return err
		}
	}
	s.tally.begin()
	working, _ := errgroup.WithContext(ctx)
	for i := range uint64(writers) {
		w := &writer{stage: s, rng: rand.New(rand.NewPCG(s.plan.Seed, i))}
		working.Go(func() error { defer end(); return w.run(life) })
	}
	if err := s.firstRow(ctx); err != nil {
		end()
		return errors.Join(err, working.Wait())
	}
	s.availability.begin()
	for _, side := range []side{relays, servers} {
		n := &nemesis{stage: s, rng: rand.New(rand.NewPCG(s.plan.Seed, 100+uint64(side))), life: life, faults: s.faultsOf(side)}
		if len(n.faults) > 0 {
			working.Go(func() error { defer end(); return n.run(ctx) })
		}
	}
	working.Go(func() error {
		first := s.tally.first
		if !s.plan.StopAtFirst {
			first = nil
		}
		select {
		case <-life.Done():
		case <-first:
		case <-s.hopeless:
		}
		end()
		return nil
	})
	began := time.Now()
	err := working.Wait()
	longest, most := s.availability.end()
	s.tally.count(func(r *Report) {
		r.Seconds, r.Unavailable, r.LongestGap = time.Since(began).Seconds(), longest.Seconds(), most.Seconds()
	})
	return err
}

// firstRow waits until the relays have delivered something: what comes before that is the start of the stage.
func (s *stage) firstRow(ctx context.Context) error {
	return await(ctx, time.Minute, func() error {
		s.journal.mu.Lock()
		defer s.journal.mu.Unlock()
		if len(s.checker.digest) == 0 {
			return errors.New("no row has come")
		}
		return nil
	})
}

// faultsOf are the plan's faults on one side that this Postgres can have.
func (s *stage) faultsOf(lane side) (chosen []fault) {
	all, _ := choose(s.plan.Faults) // parse has seen that they exist
	primary, _ := s.database.now()
	for _, f := range all {
		if f.lane == lane && f.needs <= primary.Major {
			chosen = append(chosen, f)
		}
	}
	return chosen
}

// settle waits until everything that was committed is delivered, with nothing broken, stops the relays, and takes the last look.
func (s *stage) settle(ctx context.Context) error {
	say("nothing is broken any more; waiting for what is still to come")
	patience := settlePatience
	if s.plan.StopAtFirst && s.tally.violated() {
		patience = 0
	}
	err := await(ctx, patience, func() error {
		if n, first := s.checker.owed(); n > 0 {
			return fmt.Errorf("%d committed events are not in Kafka, the first of them\n%s", n, first)
		}
		return nil
	})
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil && patience > 0 {
		s.tally.violate(stuckRelay, "%v\n%s\n%s", err, s.seats[0].describe(), s.seats[1].describe())
	}
	for _, seat := range s.seats {
		seat.stop(ctx)
	}
	if patience == 0 {
		return nil // what has not come was not waited for
	}
	// Nothing may come after this.
	shot, err := s.look(ctx)
	if err != nil {
		return err
	}
	if err := await(ctx, settlePatience, func() error { return s.checker.behind(shot) }); err != nil {
		return err
	}
	if s.witness.rebuilt.Load() == 1 { // at the start
		if err := s.journal.agree(); err != nil {
			return err
		}
	}
	var sessions int64
	if err := s.database.query(ctx, `select generation from outrider.checkpoint where name = $1`, []any{relayName}, &sessions); err != nil {
		return err
	}
	s.tally.count(func(r *Report) { r.Sessions = sessions })
	return s.checker.finish(patience)
}
