package simulation

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrider-relay/outrider/cdc"
)

// play runs one history in a bubble of its own, and gives it when it is over.
func play(t *testing.T, seed uint64, p plan) (w *world) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed, p)
		w.run()
	})
	return w
}

// planFor draws a plan. Most histories are short: what takes a processor's time is what the relay does, and a session that
// begins is worth more than one that goes on; but some things happen every ten seconds only.
func planFor(seed uint64, delivery string) plan {
	rng := random(seed, "plan")
	p := plan{
		delivery: delivery, length: 8 * time.Second, faults: 1 + rng.IntN(3), standby: rng.IntN(2) == 0,
		checkpoint:    []time.Duration{300 * time.Millisecond, time.Second, 3 * time.Second}[rng.IntN(3)],
		brokerTimeout: []time.Duration{2 * time.Second, 5 * time.Second, 15 * time.Second}[rng.IntN(3)],
		renew:         []time.Duration{0, 3 * time.Second, 20 * time.Second}[rng.IntN(3)],
		batchBytes:    []int{0, 1000}[rng.IntN(2)],
		far:           []int{1, 10, 50}[rng.IntN(3)],
		late:          rng.IntN(4) == 0,
	}
	if rng.IntN(4) == 0 {
		p.poison = 10
		// Where answers are late as a rule, a batch that is refused may always be one of which an answer was lost.
		p.brokerTimeout = 30 * time.Second
	}
	switch rng.IntN(8) {
	case 0:
		p.length, p.faults = 40*time.Second, 2+rng.IntN(4)
	case 1:
		p.forgetful, p.length, p.faults = true, 3*time.Minute, 2+rng.IntN(2)
		p.checkpoint, p.renew = 5*time.Second, 0
	}
	p.pace = p.length / 200
	return p
}

// setting is a number from the environment.
func setting(t *testing.T, name string) (value uint64, set bool) {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return 0, false
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value, true
}

// playAll plays seeds 0 to n, as many at a time as there are processors, and 10 times as many where TEST_LONG is set.
// SIMULATION_SEEDS sets another n, SIMULATION_SEED plays that one alone. What a seed decides is the same every time; what
// goroutines do at one instant of the fake clock is not, so that a failure may take several tries.
func playAll(t *testing.T, n uint64, delivery string) {
	t.Helper()
	// A history makes garbage and keeps little: with a heap so small the collector would run all the time.
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	if os.Getenv("TEST_LONG") != "" {
		n *= 10
	}
	if asked, ok := setting(t, "SIMULATION_SEEDS"); ok {
		n = asked
	}
	next := new(atomic.Uint64)
	if seed, ok := setting(t, "SIMULATION_SEED"); ok {
		next.Store(seed)
		n = seed + 1
	}
	var mu sync.Mutex
	met := make(map[meeting]int)
	t.Run("seeds", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1) - 1; seed < n; seed = next.Add(1) - 1 {
					w := play(t, seed, planFor(seed, delivery))
					mu.Lock()
					for m, times := range w.nemesis.met {
						met[m] += times
					}
					mu.Unlock()
					if len(w.failures) > 0 {
						next.Store(n) // the others need not go on
						t.Fatalf("seed %d (SIMULATION_SEED=%d plays it again): %s\n%s", seed, seed, w.failures[0], w.history())
					}
				}
			})
		}
	})
	t.Log(table(met))
	if pairs := len(faults) * int(stages); n >= uint64(2*pairs) && os.Getenv("SIMULATION_SEED") == "" && delivery == cdc.ExactlyOnce && !t.Failed() {
		everywhere(t, met)
	}
}

// everywhere asserts that the histories bring every fault to a relay at every stage. What happens at one instant is not
// the seed's, so a few of the pairs may be missed.
func everywhere(t *testing.T, met map[meeting]int) {
	t.Helper()
	pairs, missed := 0, 0
	for _, name := range faultNames() {
		for s := range stages {
			if pairs++; met[meeting{name, s}] == 0 {
				missed++
			}
		}
	}
	if missed > pairs/20 {
		t.Errorf("%d of %d pairs of a fault and a stage were never met", missed, pairs)
	}
}

// table shows how often each fault has met a relay at each stage.
func table(met map[meeting]int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%12s", "")
	for s := range stages {
		fmt.Fprintf(&b, "%11s", s)
	}
	for _, name := range faultNames() {
		fmt.Fprintf(&b, "\n%12s", name)
		for s := range stages {
			fmt.Fprintf(&b, "%11d", met[meeting{name, s}])
		}
	}
	return b.String()
}

func faultNames() (names []string) {
	for _, f := range faults {
		if !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	return names
}

func TestEveryEventIsInKafkaOnceWhateverHappens(t *testing.T) { playAll(t, 540, cdc.ExactlyOnce) }

func TestNoEventIsLostAtLeastOnce(t *testing.T) { playAll(t, 100, "at-least-once") }
