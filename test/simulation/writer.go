package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// kinds are what events are about; each has its topic.
var kinds = []string{"user", "invoice", "payment", "parcel", "refund", "quote", "visit", "claim"}

// writer commits transactions: several are open at once, so that their rows lie between each other in WAL, and some are
// rolled back.
type writer struct {
	w    *world
	rng  *rand.Rand
	open []*[]change
	ids  int
	keys string // prefix
}

func newWriter(w *world) *writer { return &writer{w: w, rng: random(w.seed, "writer"), keys: "k"} }

// step does one thing.
func (x *writer) step() {
	if !x.w.pg.is(running) {
		x.open = nil // the server was stopped: what was open is rolled back
		return
	}
	switch n := x.rng.IntN(10); {
	case n == 0:
		x.w.pg.noise(1 << x.rng.IntN(21))
	case len(x.open) < 3 && n < 4:
		x.open = append(x.open, new([]change))
	case len(x.open) > 0:
		i := x.rng.IntN(len(x.open))
		tx := x.open[i]
		if n < 8 && len(*tx) < 30 {
			rows := 1 + x.rng.IntN(6)
			if x.rng.IntN(40) == 0 {
				rows = 200
			}
			for range rows {
				x.insert(tx)
			}
			return
		}
		x.open = append(x.open[:i], x.open[i+1:]...)
		if n == 9 && x.rng.IntN(3) == 0 {
			return // rolled back; its rows stay in WAL
		}
		x.commit(*tx)
	}
}

func (x *writer) insert(tx *[]change) {
	x.ids++
	kind := "order"
	if x.rng.IntN(3) == 0 { // a new topic every now and then
		kind = kinds[int(time.Since(x.w.began)*time.Duration(len(kinds))/x.w.plan.length)%len(kinds)]
	}
	x.w.pg.insert(tx, event{
		id: fmt.Sprintf("00000000-0000-0000-0000-%012d", x.ids), kind: kind, key: fmt.Sprintf("%s%d", x.keys, x.rng.IntN(4)),
		poison: x.rng.IntN(1000) < x.w.plan.poison,
	})
}

// commit numbers the versions of each key in commit order.
func (x *writer) commit(changes []change) {
	for i := range changes {
		e := &changes[i].event
		x.w.oracle.versions[e.kind+e.key]++
		e.version = x.w.oracle.versions[e.kind+e.key]
	}
	x.w.oracle.promise(changes)
	x.w.oracle.commits(x.w.pg.commit(changes))
}

// run writes until the history's end.
func (x *writer) run(until time.Time) {
	for time.Now().Before(until) {
		time.Sleep(time.Duration(x.rng.ExpFloat64() * float64(x.w.plan.pace)))
		x.step()
	}
	for _, tx := range x.open {
		if x.w.pg.is(running) {
			x.commit(*tx)
		}
	}
}
