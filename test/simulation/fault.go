package simulation

import (
	"math/rand/v2"
	"strings"
	"time"
)

// fault is something that can go wrong. draw decides all of it, and gives what it is done to, and what is done: to one of
// the relays, where the subject has a * for its name.
type fault struct {
	name string
	draw func(n *nemesis) (subject string, do func(relay string))
}

// faults stand here as often as they are to happen.
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
	{"brokers", (*nemesis).stopBrokers},
	{"leader", (*nemesis).moveLeader},
	{"no leader", (*nemesis).loseLeader},
	{"coordinator", (*nemesis).moveCoordinator},
	{"weather", (*nemesis).badWeather},
	{"weather", (*nemesis).badWeather},
	{"rights", (*nemesis).takeRights},
	{"partitions", (*nemesis).addPartitions},
	{"neighbour", (*nemesis).letOthersWrite},
	{"retention", (*nemesis).removeRecords},
	{"crash", (*nemesis).crashPostgres},
	{"shutdown", (*nemesis).stopPostgres},
	{"failover", (*nemesis).failOver},
	{"terminate", (*nemesis).terminateWalsender},
	{"full", (*nemesis).fillPostgres},
	{"elsewhere", (*nemesis).leadElsewhere},
}

func (n *nemesis) killRelay() (string, func(string)) {
	lost, vanishes, pause := n.rng.IntN(2) == 0, n.rng.IntN(4) == 0, n.between(0, 6*time.Second)
	return "relay *", func(name string) {
		n.relay(name).kill(lost, vanishes)
		time.Sleep(pause)
		n.launch(name)
	}
}

// leaveLate kills a relay whose last requests to Kafka, or to Postgres, are still under way, and arrive when another session
// has begun.
func (n *nemesis) leaveLate() (string, func(string)) {
	toPostgres := n.rng.IntN(3) == 0
	delay, before, pause := n.between(0, 20*time.Second), n.between(0, 2*time.Second), n.between(0, 3*time.Second)
	return "relay *", func(name string) {
		r := n.relay(name)
		n.w.net.each(r.name, func(l *link) {
			if strings.Contains(l.name, postgresAddr) == toPostgres {
				l.slow(1, delay)
			}
		})
		time.Sleep(before)
		r.kill(false, false)
		time.Sleep(pause)
		n.launch(name)
	}
}

func (n *nemesis) stopRelay() (string, func(string)) {
	pause := n.between(0, 5*time.Second)
	return "relay *", func(name string) {
		r := n.relay(name)
		r.stop()
		<-r.done
		time.Sleep(pause)
		n.launch(name)
	}
}

func (n *nemesis) freezeRelay() (string, func(string)) {
	lasts := n.between(0, 20*time.Second)
	return "relay *", func(name string) {
		r := n.relay(name)
		n.w.net.freeze(r.name, true)
		time.Sleep(lasts)
		n.w.net.freeze(r.name, false)
	}
}

// some draws on how many of a relay's links a fault falls, and gives what makes it fall there.
func (n *nemesis) some() func(name string, do func(*link)) {
	odds, which := n.rng.IntN(4), rand.New(rand.NewPCG(n.rng.Uint64(), 0))
	return func(name string, do func(*link)) {
		n.w.net.each(n.relay(name).name, func(l *link) {
			if which.IntN(4) <= odds {
				do(l)
			}
		})
	}
}

func (n *nemesis) cutLinks() (string, func(string)) {
	some, lost := n.some(), [2]bool{n.rng.IntN(2) == 0, n.rng.IntN(2) == 0}
	return "links of *", func(name string) { some(name, func(l *link) { l.cut(lost) }) }
}

func (n *nemesis) holdLinks() (string, func(string)) {
	some, lasts := n.some(), n.between(0, 20*time.Second)
	return "relay *", func(name string) {
		var held []*link
		some(name, func(l *link) { l.hold(true); held = append(held, l) })
		time.Sleep(lasts)
		for _, l := range held {
			l.hold(false)
		}
	}
}

func (n *nemesis) slowLinks() (string, func(string)) {
	some, lasts, delay, side := n.some(), n.between(0, 15*time.Second), n.between(0, 10*time.Second), n.rng.IntN(2)
	return "links of *", func(name string) {
		var slowed []*link
		some(name, func(l *link) { l.slow(side, delay); slowed = append(slowed, l) })
		time.Sleep(lasts)
		for _, l := range slowed {
			l.slow(side, 0)
		}
	}
}
