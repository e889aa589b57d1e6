package simulation

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// nemesis makes things go wrong, one after another, each for a while; several may be going on at once. What it decides
// comes from the seed alone, before anything of it happens.
type nemesis struct {
	w    *world
	rng  *rand.Rand
	acts sync.WaitGroup

	mu     sync.Mutex
	busy   map[string]bool // what is being broken just now is not broken twice
	relays map[string]*relay
}

func newNemesis(w *world) *nemesis {
	return &nemesis{w: w, rng: random(w.seed, "nemesis"), busy: make(map[string]bool), relays: make(map[string]*relay)}
}

// fault is something that can go wrong. draw decides all of it, and gives what it is done to, and what is done.
type fault struct {
	name string
	draw func(n *nemesis) (subject string, do func())
}

var faults = []fault{
	{"kill", (*nemesis).killRelay},
	{"kill", (*nemesis).killRelay},
	{"freeze", (*nemesis).freezeRelay},
	{"freeze", (*nemesis).freezeRelay},
	{"late", (*nemesis).leaveLate},
	{"late", (*nemesis).leaveLate},
	{"stop", (*nemesis).stopRelay},
	{"cut", (*nemesis).cutLinks},
	{"black hole", (*nemesis).holdLinks},
	{"slow", (*nemesis).slowLinks},
	{"broker", (*nemesis).stopBroker},
	{"leader", (*nemesis).moveLeader},
	{"no leader", (*nemesis).loseLeader},
	{"weather", (*nemesis).badWeather},
	{"weather", (*nemesis).badWeather},
	{"crash", (*nemesis).crashPostgres},
	{"shutdown", (*nemesis).stopPostgres},
	{"failover", (*nemesis).failOver},
	{"terminate", (*nemesis).terminateWalsender},
}

// between draws a duration, the short ones more often.
func (n *nemesis) between(low, high time.Duration) time.Duration {
	x := n.rng.Float64()
	return low + time.Duration(x*x*float64(high-low))
}

// run breaks things until the history's end, and then waits until all is well again.
func (n *nemesis) run() {
	gap := n.w.plan.length / time.Duration(n.w.plan.faults+1)
	for range n.w.plan.faults {
		time.Sleep(n.between(gap/4, 2*gap))
		f := faults[n.rng.IntN(len(faults))]
		if n.w.plan.forgetful && n.rng.IntN(3) == 0 {
			f = fault{"outage", (*nemesis).loseKafka}
		}
		subject, do := f.draw(n)
		if !n.take(subject) {
			continue
		}
		n.w.note("nemesis: %s %s", f.name, subject)
		n.acts.Go(func() {
			do()
			n.give(subject)
			n.w.note("nemesis: %s %s is over", f.name, subject)
		})
	}
	n.acts.Wait()
	n.w.note("nemesis: all is well")
}

func (n *nemesis) take(subject string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy[subject] {
		return false
	}
	n.busy[subject] = true
	return true
}

func (n *nemesis) give(subject string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.busy, subject)
}

// launch starts a process under a name that none has had.
func (n *nemesis) launch(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.relays[name] = n.w.startRelay(fmt.Sprintf("%s%d", name, time.Since(n.w.began)/time.Millisecond))
}

func (n *nemesis) relay(name string) *relay {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.relays[name]
}

// anyRelay draws one.
func (n *nemesis) anyRelay() string {
	if n.w.plan.standby && n.rng.IntN(2) == 0 {
		return "b"
	}
	return "a"
}

func (n *nemesis) killRelay() (string, func()) {
	name, lost, vanishes, pause := n.anyRelay(), n.rng.IntN(2) == 0, n.rng.IntN(4) == 0, n.between(0, 15*time.Second)
	return "relay " + name, func() {
		n.relay(name).kill(lost, vanishes)
		time.Sleep(pause)
		n.launch(name)
	}
}

// leaveLate kills a relay whose last requests to Kafka are still under way, and arrive when another session has begun.
func (n *nemesis) leaveLate() (string, func()) {
	name, delay, before, pause := n.anyRelay(), n.between(0, 40*time.Second), n.between(0, 2*time.Second), n.between(0, 3*time.Second)
	return "relay " + name, func() {
		r := n.relay(name)
		n.w.net.each(r.name, func(l *link) {
			if !strings.Contains(l.name, postgresAddr) {
				l.slow(1, delay)
			}
		})
		time.Sleep(before)
		r.kill(false, false)
		time.Sleep(pause)
		n.launch(name)
	}
}

func (n *nemesis) stopRelay() (string, func()) {
	name, pause := n.anyRelay(), n.between(0, 5*time.Second)
	return "relay " + name, func() {
		r := n.relay(name)
		r.stop()
		<-r.done
		time.Sleep(pause)
		n.launch(name)
	}
}

func (n *nemesis) freezeRelay() (string, func()) {
	name, lasts := n.anyRelay(), n.between(0, 45*time.Second)
	return "relay " + name, func() {
		r := n.relay(name)
		n.w.net.freeze(r.name, true)
		time.Sleep(lasts)
		n.w.net.freeze(r.name, false)
	}
}

// some draws on how many of a relay's links a fault falls, and gives what makes it fall there.
func (n *nemesis) some(name string) func(do func(*link)) {
	odds, which := n.rng.IntN(4), rand.New(rand.NewPCG(n.rng.Uint64(), 0))
	return func(do func(*link)) {
		n.w.net.each(n.relay(name).name, func(l *link) {
			if which.IntN(4) <= odds {
				do(l)
			}
		})
	}
}

func (n *nemesis) cutLinks() (string, func()) {
	name := n.anyRelay()
	some, lost := n.some(name), [2]bool{n.rng.IntN(2) == 0, n.rng.IntN(2) == 0}
	return "links of " + name, func() { some(func(l *link) { l.cut(lost) }) }
}

func (n *nemesis) holdLinks() (string, func()) {
	name := n.anyRelay()
	some, lasts := n.some(name), n.between(0, 40*time.Second)
	return "relay " + name, func() {
		var held []*link
		some(func(l *link) { l.hold(true); held = append(held, l) })
		time.Sleep(lasts)
		for _, l := range held {
			l.hold(false)
		}
	}
}

func (n *nemesis) slowLinks() (string, func()) {
	name := n.anyRelay()
	some, lasts, delay, side := n.some(name), n.between(0, 30*time.Second), n.between(0, 20*time.Second), n.rng.IntN(2)
	return "links of " + name, func() {
		var slowed []*link
		some(func(l *link) { l.slow(side, delay); slowed = append(slowed, l) })
		time.Sleep(lasts)
		for _, l := range slowed {
			l.slow(side, 0)
		}
	}
}

func (n *nemesis) stopBroker() (string, func()) {
	id, election, lasts := int32(1+n.rng.IntN(3)), n.between(0, 8*time.Second), n.between(0, 20*time.Second)
	return brokerAddr(id), func() {
		n.w.kafka.stop(id)
		time.Sleep(election)
		n.w.kafka.elect()
		time.Sleep(lasts)
		n.w.kafka.start(id)
		n.w.kafka.elect()
	}
}

// loseKafka takes all brokers away, longer than they remember a producer. When they come back answers get lost, so that
// batches are sent again whose rows were committed long before.
func (n *nemesis) loseKafka() (string, func()) {
	lasts := n.between(0, 10*time.Minute)
	return "weather", func() {
		for id := range int32(3) {
			n.w.kafka.stop(1 + id)
		}
		time.Sleep(lasts)
		n.w.kafka.locked(func() { n.w.kafka.weather = weather{lostAnswer: 400, timedOut: 200} })
		for id := range int32(3) {
			n.w.kafka.start(1 + id)
		}
		n.w.kafka.elect()
		time.Sleep(10 * time.Second)
		n.w.kafka.locked(func() { n.w.kafka.weather = weather{} })
	}
}

func (n *nemesis) moveLeader() (string, func()) {
	return "a leader", func() { n.w.kafka.move(func(*partition) int32 { return n.w.kafka.pick() }) }
}

func (n *nemesis) loseLeader() (string, func()) {
	lasts := n.between(0, 15*time.Second)
	return "a leader", func() {
		n.w.kafka.move(func(*partition) int32 { return -1 })
		time.Sleep(lasts)
		n.w.kafka.elect()
	}
}

func (n *nemesis) badWeather() (string, func()) {
	odds := func() int {
		if n.rng.IntN(2) == 0 {
			return 0
		}
		return int(n.between(0, 300))
	}
	w, lasts := weather{odds(), odds(), odds(), odds(), odds(), odds(), odds() / 4}, n.between(time.Second, 20*time.Second)
	return "weather", func() {
		n.w.kafka.locked(func() { n.w.kafka.weather = w })
		time.Sleep(lasts)
		n.w.kafka.locked(func() { n.w.kafka.weather = weather{} })
	}
}

func (n *nemesis) crashPostgres() (string, func()) {
	lasts := n.between(0, 5*time.Second)
	return "postgres", func() {
		n.w.pg.crash()
		time.Sleep(lasts)
		n.w.pg.start()
	}
}

func (n *nemesis) failOver() (string, func()) {
	lasts := n.between(0, 5*time.Second)
	return "postgres", func() {
		n.w.pg.crash()
		time.Sleep(lasts)
		n.w.pg.promote()
	}
}

// stopPostgres is a planned restart. It must not have to wait for a relay that can be reached.
func (n *nemesis) stopPostgres() (string, func()) {
	lasts := n.between(0, 5*time.Second)
	return "postgres", func() {
		n.w.pg.stop()
		began := time.Now()
		for !n.w.pg.is(down) {
			time.Sleep(10 * time.Millisecond)
			if time.Since(began) > time.Minute+3*n.w.pg.senderTimeout { // longer than connections are held up
				n.w.fail("a shutdown of Postgres waits for the relay")
				return
			}
		}
		time.Sleep(lasts)
		n.w.pg.start()
	}
}

func (n *nemesis) terminateWalsender() (string, func()) {
	return "walsender", func() { n.w.pg.terminate() }
}
