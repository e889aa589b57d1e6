package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// arrival says what a record is.
type arrival int

const (
	first   arrival = iota // of an event of the application
	again                  // one that had arrived before
	ghost                  // of an event that was rolled back: must never be
	foreign                // of an event that the application knows nothing of
)

// event is what is known of an event of the application.
type event struct {
	commit    time.Time // when its commit was asked for; zero: it was rolled back
	committed bool
	arrived   int
}

// tally holds what was committed against what has arrived.
type tally struct {
	mu       sync.Mutex
	events   map[string]*event // by id; guarded by mu
	delays   []time.Duration   // of first arrivals; guarded by mu
	missing  int               // committed events that have not arrived; guarded by mu
	foreign  int               // guarded by mu
	progress chan struct{}     // told, without waiting, of each first arrival
}

func newTally() *tally {
	return &tally{events: make(map[string]*event), progress: make(chan struct{}, 1)}
}

// committing notes that the commit of an event's transaction is asked for; its record may arrive before the answer.
func (t *tally) committing(id string, at time.Time) { t.put(id, &event{commit: at}) }

func (t *tally) rolledBack(id string) { t.put(id, &event{}) }

func (t *tally) put(id string, e *event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events[id] = e
}

func (t *tally) committed(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.events[id]
	e.committed = true
	if e.arrived == 0 {
		t.missing++
	}
}

// arrived notes a record. The delay counts from the commit, and is 0 for an event that is not the application's.
func (t *tally) arrived(id string, at time.Time) (delay time.Duration, what arrival) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, known := t.events[id]
	if !known {
		t.foreign++
		return 0, foreign
	}
	e.arrived++
	delay = at.Sub(e.commit)
	switch {
	case e.commit.IsZero():
		return 0, ghost
	case e.arrived > 1:
		return delay, again
	}
	t.delays = append(t.delays, delay)
	if e.committed {
		t.missing--
	}
	select {
	case t.progress <- struct{}{}:
	default:
	}
	return delay, first
}

// wait returns when every event that was committed has arrived, or ctx has ended.
func (t *tally) wait(ctx context.Context) {
	for {
		t.mu.Lock()
		missing := t.missing
		t.mu.Unlock()
		if missing == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.progress:
		}
	}
}

// sum is a tally at one moment.
type sum struct {
	committed, rolledBack     int
	records, foreign          int
	lost, repeated, ghosts    int
	median, percentile99, max time.Duration
}

func (t *tally) sum() sum {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := sum{foreign: t.foreign, lost: t.missing}
	for _, e := range t.events {
		s.records += e.arrived
		if e.commit.IsZero() {
			s.rolledBack++
			s.ghosts += e.arrived
			continue
		}
		if e.committed {
			s.committed++
		}
		s.repeated += max(e.arrived-1, 0)
	}
	if sorted := slices.Sorted(slices.Values(t.delays)); len(sorted) > 0 {
		s.median, s.percentile99, s.max = sorted[len(sorted)/2], sorted[len(sorted)*99/100], sorted[len(sorted)-1]
	}
	return s
}

// lines is the summary.
func (s sum) lines(ran time.Duration) []string {
	lines := []string{
		fmt.Sprintf("%d transactions committed, %d rolled back in %s", s.committed, s.rolledBack, ran.Round(time.Second)),
		fmt.Sprintf("%d records: lost %d, repeated %d, of rolled-back transactions %d", s.records, s.lost, s.repeated, s.ghosts),
		fmt.Sprintf("delay from commit to consumer: p50 %s, p99 %s, max %s", milliseconds(s.median), milliseconds(s.percentile99), milliseconds(s.max)),
	}
	if s.foreign > 0 {
		lines = append(lines, fmt.Sprintf("%d more records of events that somebody else published", s.foreign))
	}
	if s.repeated > 0 {
		lines = append(lines, "repeats come after a kill, as delivery is at-least-once; a consumer knows them by their outrider-position")
	}
	return lines
}
