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

	mu       sync.Mutex
	busy     map[string]bool // what is being broken just now is not broken twice
	relays   map[string]*relay
	launched int
	met      map[meeting]int
}

// meeting is a fault that has met a relay at a stage.
type meeting struct {
	fault string
	stage stage
}

func newNemesis(w *world) *nemesis {
	return &nemesis{w: w, rng: random(w.seed, "nemesis"), busy: make(map[string]bool), relays: make(map[string]*relay), met: make(map[meeting]int)}
}

// between draws a duration, the short ones more often.
func (n *nemesis) between(low, high time.Duration) time.Duration {
	x := n.rng.Float64()
	return low + time.Duration(x*x*float64(high-low))
}

// run breaks things until the history's end, and then waits until all is well again.
func (n *nemesis) run() {
	gap := n.w.plan.length / time.Duration(n.w.plan.faults+1)
	for i := range n.w.plan.faults {
		time.Sleep(n.between(gap/4, 2*gap))
		b := n.draw(i)
		n.acts.Go(b.fall)
	}
	n.acts.Wait()
	n.w.note("nemesis: all is well")
}

// blow is a fault, what it strikes, and when.
type blow struct {
	n       *nemesis
	fault   string
	subject string // with the relay's name in it where there is a *
	do      func(relay string)
	relay   string
	aim     stage         // that the relay has to come to first; stages: it falls at once
	late    time.Duration // after that
}

// draw decides the i-th. Where seeds are counted from 0, the first ones of their histories bring each fault to each stage.
func (n *nemesis) draw(i int) blow {
	f, aim := faults[n.rng.IntN(len(faults))], min(stages, stage(n.rng.IntN(2*int(stages))))
	if i == 0 {
		f, aim = faults[n.w.seed%uint64(len(faults))], stage(n.w.seed/uint64(len(faults))%uint64(stages))
	} else if n.w.plan.forgetful && i == 1 {
		f, aim = fault{"outage", (*nemesis).loseKafka}, stages
	}
	b := blow{n: n, fault: f.name, relay: n.anyRelay(), aim: aim}
	if i > 0 && n.rng.IntN(2) == 0 {
		b.late = n.between(0, 5*time.Millisecond)
	}
	b.subject, b.do = f.draw(n)
	return b
}

// fall waits for the relay that is aimed at, and strikes.
func (b blow) fall() {
	if b.aim == stages {
		b.strike("")
		return
	}
	n, leader := b.n, b.n.leader()
	if !n.take("relay " + leader) {
		b.strike("")
		return
	}
	r := n.relay(leader)
	b.relay = n.bring(leader, b.aim)
	time.Sleep(b.late)
	b.strike("relay " + leader)
	if b.aim == draining {
		<-r.done
		if n.relay(leader) == r {
			n.launch(leader)
		}
	}
	n.give("relay " + leader)
}

// strike does it; held is what has been taken for it.
func (b blow) strike(held string) {
	n, subject := b.n, strings.Replace(b.subject, "*", b.relay, 1)
	if subject != held {
		if !n.take(subject) {
			return
		}
		defer n.give(subject)
	}
	meets := n.w.journey.of(n.relay(b.relay).name)
	n.w.note("nemesis: %s %s, while relay %s is %s", b.fault, subject, b.relay, meets)
	n.mu.Lock()
	n.met[meeting{b.fault, meets}]++
	n.mu.Unlock()
	b.do(b.relay)
	n.w.note("nemesis: %s %s is over", b.fault, subject)
}

// leader is the relay that has come furthest.
func (n *nemesis) leader() string {
	if b := n.relay("b"); b != nil && n.w.journey.of(b.name) > n.w.journey.of(n.relay("a").name) {
		return "b"
	}
	return "a"
}

// bring has the leader come to a stage, and begin again for it where it has passed that, and gives the relay which is
// there first: with a standby that may be the other one.
func (n *nemesis) bring(leader string, s stage) string {
	const patience = 15 * time.Second
	r := n.relay(leader)
	if n.w.journey.of(r.name) == s {
		return leader
	}
	there := n.w.journey.await(s)
	switch {
	case s == draining:
		n.w.journey.reach(r.name, draining)
		r.stop()
		return leader
	case s == outside, n.w.journey.of(r.name) > s:
		r.kill(false, false)
		n.launch(leader)
	}
	if s == outside {
		return leader
	}
	select {
	case process := <-there:
		return process[:1]
	case <-time.After(patience):
		return leader
	}
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
	n.launched++
	n.relays[name] = n.w.startRelay(fmt.Sprintf("%s%d", name, n.launched))
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
