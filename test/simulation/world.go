// Package simulation runs the real relay, in several processes, between a model of PostgreSQL and a model of Kafka, under a
// fake clock (testing/synctest) and with faults that a seed decides: each seed is another history, minutes of which pass in
// milliseconds. The models speak the real protocols over connections in memory, and are held against the real servers by
// scripts that run on both.
package simulation

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/outrider-relay/outrider/cdc"
)

// plan is what a seed decides before anything happens.
type plan struct {
	delivery      string
	checkpoint    time.Duration
	brokerTimeout time.Duration
	renew         time.Duration
	batchBytes    int
	faults        int           // how many in the history
	length        time.Duration // of the history
	standby       bool
	pace          time.Duration // between two things that the writer does
	far           int           // how far apart the hosts are, see link
	// forgetful brokers remember a producer for minutes only, and Kafka is away for as long.
	forgetful bool
	// poison is how many rows of a thousand no topic takes but that of the dead letters.
	poison int
	// late topics are made when the relay waits for them.
	late bool
}

// world is one history.
type world struct {
	seed  uint64
	plan  plan
	began time.Time

	net     *network
	pg      *server
	kafka   *cluster
	journey *journey
	oracle  *oracle
	nemesis *nemesis

	mu       sync.Mutex
	twin     *server        // that the address leads to as well, if any
	turns    map[string]int // of processes, to reach one or the other
	lines    []string
	failures []string
	verdicts []string
	expected string // a verdict that the faults of the history demand
}

func newWorld(seed uint64, p plan) *world {
	w := &world{seed: seed, plan: p, began: time.Now(), turns: make(map[string]int), net: newNetwork(seed), pg: newServer(seed), kafka: newCluster(seed, 3)}
	w.journey, w.oracle, w.nemesis = w.pg.journey, newOracle(w), newNemesis(w)
	rng := random(seed, "world")
	w.pg.senderTimeout = 6 * time.Second
	w.pg.confirmedTo = w.oracle.confirmed
	w.pg.storedTo = w.oracle.saved
	w.pg.unknown = func(sql string) { w.fail("the model knows no such statement: %s", sql) }
	w.kafka.took, w.kafka.produces, w.kafka.reached = w.oracle.took, w.oracle.produces, w.journey.reach
	if p.forgetful {
		w.kafka.expiration, w.kafka.tells = time.Minute, true
	}
	w.pg.obeysLower = rng.IntN(2) == 0
	w.kafka.sluggish = rng.IntN(3) == 0
	w.kafka.txns.slow = rng.IntN(3) == 0
	w.kafka.txns.skips = rng.IntN(2) == 0
	w.net.accept, w.net.far = w.accept, p.far
	w.kafka.names = rng.IntN(2) == 0
	w.kafka.locked(func() {
		w.kafka.create(deadLetters, 1)
		w.kafka.create("outbox.event.order", 3)
		for _, kind := range kinds {
			if !p.late {
				w.kafka.create("outbox.event."+kind, 1)
			}
		}
	})
	return w
}

// createTopics makes the topics of the kinds one after another, each when there may be rows for it already.
func (w *world) createTopics() {
	rng := random(w.seed, "topics")
	for i, kind := range kinds {
		from := w.plan.length * time.Duration(i) / time.Duration(len(kinds))
		time.Sleep(time.Until(w.began.Add(from + time.Duration(rng.IntN(2000))*time.Millisecond)))
		w.kafka.locked(func() { w.kafka.create("outbox.event."+kind, 1) })
	}
}

// postgresAddr is where the relay's URL leads.
const postgresAddr = "127.0.0.1:5432"

// accept brings a connection to the server at an address.
func (w *world) accept(c net.Conn, addr string) (func(), error) {
	if addr == postgresAddr {
		if serve, ok := w.route(c.(conn).process).accept(c.(conn)); ok {
			return serve, nil
		}
		return nil, syscall.ECONNREFUSED
	}
	var id int32
	if _, err := fmt.Sscanf(addr, "broker%d:9092", &id); err != nil {
		return nil, syscall.EHOSTUNREACH
	}
	if serve, up := w.kafka.accept(c.(conn), id); up {
		return serve, nil
	}
	return nil, syscall.ECONNREFUSED
}

// route gives the server that a process reaches next: while the address leads to two, one and the other in turn.
func (w *world) route(process string) *server {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.twin == nil {
		return w.pg
	}
	if w.turns[process]++; w.turns[process]%2 == 0 {
		return w.pg
	}
	return w.twin
}

// note writes a line of the history.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprintf("%12s  ", time.Since(w.began).Truncate(time.Microsecond))+fmt.Sprintf(format, args...))
}

// fail notes a promise that was broken.
func (w *world) fail(format string, args ...any) {
	w.note("FAILED: "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

// blocked notes a verdict of the relay.
func (w *world) blocked(b *cdc.Blocked) {
	w.mu.Lock()
	expected := w.expected
	w.verdicts = append(w.verdicts, b.Verdict)
	w.mu.Unlock()
	w.note("blocked: %v", b)
	if expected != b.Verdict {
		w.fail("the relay is blocked (%s), which nothing that happened demands: %v", b.Verdict, b)
	}
}

// judged says whether the relay has come to a verdict.
func (w *world) judged(verdict string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.verdicts, verdict)
}

// failed says whether a promise was broken.
func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.failures) > 0
}

// history is everything that was noted.
func (w *world) history() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.lines, "\n")
}

// settle waits until everything has arrived.
func (w *world) settle() {
	const patience = 10 * time.Minute
	for began := time.Now(); ; time.Sleep(time.Second) {
		left, first := w.oracle.missing()
		if left == 0 || w.failed() {
			return
		}
		if time.Since(began) > patience {
			w.fail("%d events are not in Kafka %s after the last fault, %v the first of them", left, patience, first)
			return
		}
	}
}

// run is a history from its first connection to its last.
func (w *world) run() {
	w.nemesis.launch("a")
	for !w.pg.has("outrider_model") {
		time.Sleep(10 * time.Millisecond)
	}
	if w.plan.standby {
		w.nemesis.launch("b")
	}
	var others sync.WaitGroup
	others.Go(func() { newWriter(w).run(w.began.Add(w.plan.length)) })
	if w.plan.late {
		others.Go(w.createTopics)
	}
	w.nemesis.run()
	others.Wait()
	w.settle()
	for _, name := range []string{"a", "b"} {
		if r := w.nemesis.relay(name); r != nil {
			r.stop()
			<-r.done
		}
	}
	time.Sleep(2 * time.Minute) // for what is still under way from processes that are no more
	w.net.end()
}
