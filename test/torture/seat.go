package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// relayName is that of both relays, and slotName their slot.
const (
	relayName = "torture"
	slotName  = "outrider_" + relayName
)

// seat is where a relay runs: with ways of its own to the servers, and one process after another.
type seat struct {
	name     string // a or b
	postgres *harness.Proxy
	kafka    []*harness.Proxy // to each node
	options  harness.RelayOptions
	tally    *tally
	excused  func() bool // whether a relay that starts may find that a server does not fit its settings, and end
	keep     string      // folder for the logs; empty: none

	mu       sync.Mutex
	relay    *harness.Relay
	lives    int          // processes so far
	ours     *atomic.Bool // the end of this one is our doing; each process has its own, which outlives it
	frozen   bool
	closed   bool   // no further process
	instance string // of this one, once it has said so
	state    cdc.State
	reason   string
	watched  sync.WaitGroup // for the end of each process
}

func newSeat(name string, t *tally, keep string) (s *seat, err error) {
	s = &seat{name: name, tally: t, keep: keep, ours: new(atomic.Bool)}
	if s.postgres, err = harness.StartProxy(""); err != nil {
		return nil, err
	}
	for range nodes {
		way, err := harness.StartProxy("")
		if err != nil {
			return nil, err
		}
		s.kafka = append(s.kafka, way)
	}
	return s, nil
}

// listener names the seat's listeners at the brokers, and way is that name in their settings.
func (s *seat) listener() string { return "SEAT" + strings.ToUpper(s.name) }
func (s *seat) way() string      { return "seat" + s.name }

// start starts a process, unless one runs.
func (s *seat) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.relay != nil && s.relay.Running() {
		return nil
	}
	relay, err := harness.RunRelay(s.options)
	if err != nil {
		return err
	}
	ours := new(atomic.Bool)
	s.relay, s.ours, s.frozen, s.instance, s.state, s.reason = relay, ours, false, "", "", ""
	s.lives++
	life := s.lives
	s.watched.Go(func() { s.watch(relay, life, ours) })
	return nil
}

// Exit codes of a relay that a server has refused at its start, as docs/operating.md has them. Whoever runs it starts it again.
const (
	exitPostgres = 10
	exitKafka    = 11
)

// restartAfter is how long that takes.
const restartAfter = 300 * time.Millisecond

// watch waits for the end of a process, which nobody but us may bring about.
func (s *seat) watch(relay *harness.Relay, life int, ours *atomic.Bool) {
	code, _ := relay.Wait(context.Background()) // there is no end of that context
	if s.keep != "" {
		name := filepath.Join(s.keep, fmt.Sprintf("relay-%s-%03d.log", s.name, life))
		if err := os.WriteFile(name, []byte(relay.Log()+"\n"), 0o644); err != nil {
			say("%v", err)
		}
	}
	switch {
	case ours.Load():
	case (code == exitPostgres || code == exitKafka) && s.excused():
		pause(context.Background(), restartAfter)
		if err := s.start(); err != nil {
			say("start relay %s again: %v", s.name, err)
		}
	default:
		s.tally.violate(endedRelay, "relay %s has ended by itself, with exit code %d. Its last lines:\n%s", s.name, code, lastLines(relay.Log()))
	}
}

// lastLines are those that count.
func lastLines(log string) string {
	const count = 10
	lines := strings.Split(log, "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-count):], "\n  ")
}

// kill is kill -9.
func (s *seat) kill() {
	s.mu.Lock()
	relay := s.relay
	s.ours.Store(true)
	s.mu.Unlock()
	if relay != nil {
		relay.Kill()
		s.tally.count(func(r *Report) { r.Kills++ })
	}
}

// Exit codes of a relay that was asked to stop: clean, and with something left in its hands.
const (
	exitClean   = 0
	exitUndrain = 31
	// exitSignal is that of a process which had not come to heeding the signal.
	exitSignal = -1
)

// stop ends the process in order.
func (s *seat) stop(ctx context.Context) {
	s.mu.Lock()
	relay, up := s.relay, s.instance != ""
	s.ours.Store(true)
	s.mu.Unlock()
	if relay == nil || !relay.Running() {
		return // how it has ended is told already
	}
	s.thaw()
	relay.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainPatience)
	defer cancel()
	code, err := relay.Wait(ctx)
	switch {
	case err != nil:
		s.tally.violate(stuckRelay, "relay %s was asked to stop %s ago, and still runs. Its last lines:\n%s", s.name, drainPatience, lastLines(relay.Log()))
		relay.Kill()
	case code == exitSignal && !up:
	case code != exitClean && code != exitUndrain:
		s.tally.violate(endedRelay, "relay %s was asked to stop, and ended with exit code %d. Its last lines:\n%s", s.name, code, lastLines(relay.Log()))
	}
}

// drain is the relays' timeouts.drain, and drainPatience what a stop may take.
const (
	drain         = 10 * time.Second
	drainPatience = 25 * time.Second
)

// freeze is SIGSTOP, and thaw SIGCONT.
func (s *seat) freeze() { s.signal(syscall.SIGSTOP, true) }
func (s *seat) thaw()   { s.signal(syscall.SIGCONT, false) }

func (s *seat) signal(sig syscall.Signal, frozen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relay != nil {
		s.relay.Signal(sig)
		s.frozen = frozen
	}
}

// ask reads the relay's status.
func (s *seat) ask() (st cdc.Status, err error) {
	s.mu.Lock()
	relay, frozen := s.relay, s.frozen
	s.mu.Unlock()
	if relay == nil || frozen || !relay.Running() {
		return st, errors.New("it does not run")
	}
	if st, err = relay.Status(); err != nil {
		return st, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relay == relay {
		s.instance, s.state, s.reason = st.Instance, st.State, st.Reason
	}
	return st, nil
}

// has says whether the present process is an instance.
func (s *seat) has(instance string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.instance == instance && instance != ""
}

// toKafka does something to all ways to Kafka.
func (s *seat) toKafka(do func(*harness.Proxy)) {
	for _, p := range s.kafka {
		do(p)
	}
}

func (s *seat) close() {
	s.mu.Lock()
	s.ours.Store(true)
	s.closed = true
	relay := s.relay
	s.mu.Unlock()
	if relay != nil {
		relay.Kill()
	}
	s.watched.Wait()
	s.postgres.Close()
	s.toKafka((*harness.Proxy).Close)
}

// describe says how a seat is.
func (s *seat) describe() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := ""
	if s.relay != nil {
		log = lastLines(s.relay.Log())
	}
	return fmt.Sprintf("  relay %s is %s (%s). Its last lines:\n%s", s.name, s.state, s.reason, log)
}
