package simulation

import (
	"os"
	"strconv"
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

// planFor draws a plan.
func planFor(seed uint64, delivery string) plan {
	rng := random(seed, "plan")
	p := plan{
		delivery: delivery, length: time.Minute, faults: 2 + rng.IntN(8), standby: rng.IntN(2) == 0,
		checkpoint:    []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second}[rng.IntN(3)],
		brokerTimeout: []time.Duration{2 * time.Second, 10 * time.Second, 30 * time.Second}[rng.IntN(3)],
		renew:         []time.Duration{0, 3 * time.Second, 20 * time.Second}[rng.IntN(3)],
		batchBytes:    []int{0, 1000}[rng.IntN(2)],
		far:           []int{1, 10, 50}[rng.IntN(3)],
		pace:          40 * time.Millisecond,
	}
	if rng.IntN(8) == 0 {
		p.forgetful, p.length, p.pace = true, 15*time.Minute, time.Second
	}
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

// playAll plays seeds 0 to n, and 25 times as many where TEST_LONG is set. SIMULATION_SEEDS sets another n, SIMULATION_SEED
// plays that one alone. What a seed decides is
// the same every time; what goroutines do at one instant of the fake clock is not, so that a failure may take several tries.
func playAll(t *testing.T, n uint64, delivery string) {
	t.Helper()
	from := uint64(0)
	if os.Getenv("TEST_LONG") != "" {
		n *= 25
	}
	if asked, ok := setting(t, "SIMULATION_SEEDS"); ok {
		n = asked
	}
	if seed, ok := setting(t, "SIMULATION_SEED"); ok {
		from, n = seed, seed+1
	}
	for seed := from; seed < n; seed++ {
		w := play(t, seed, planFor(seed, delivery))
		if len(w.failures) > 0 {
			t.Fatalf("seed %d (SIMULATION_SEED=%d plays it again): %s\n%s", seed, seed, w.failures[0], w.history())
		}
	}
}

func TestEveryEventIsInKafkaOnceWhateverHappens(t *testing.T) { playAll(t, 50, cdc.ExactlyOnce) }

func TestNoEventIsLostAtLeastOnce(t *testing.T) { playAll(t, 10, "at-least-once") }
