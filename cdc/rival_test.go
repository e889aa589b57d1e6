package cdc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/migrations"
)

// fencedError is a sink's of a session whose place another producer has taken.
type fencedError struct{}

func (fencedError) Error() string           { return "INVALID_PRODUCER_EPOCH" }
func (fencedError) TransactionalID() string { return "outrider.orders" }

// judgedError is a sink's that only a person can judge.
type judgedError struct{ verdict string }

func (e judgedError) Error() string { return e.verdict }
func (e judgedError) Blocked() (verdict, reason, advice string, options []string) {
	return e.verdict, "Kafka holds an event", "", nil
}

func TestRivalIsProvenByFencesWhileNobodyElseLeads(t *testing.T) {
	pg := database(t, ``)
	conn := control(t, pg)
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	run(t, conn, `insert into outrider.checkpoint (name, format, generation, instance, heartbeat_at, system_id, timeline, slot, lsn, delivery, updated_at)
		values ('orders', 1, 5, 'i', now(), '1', 1, 's', '0/1', 'exactly-once', now())`)
	relay := New(Config{Name: "orders", Postgres: *pg})
	fenced, diverged := asSink(fencedError{}), asSink(judgedError{"diverged"})
	// end is what becomes of a session of generation 5 that ends with err.
	end := func(err error, rivalry ...bool) string {
		s := &session{relay: relay, cfg: &relay.cfg, control: conn, storing: make(chan struct{}, 1), generation: 5, rivalry: len(rivalry) > 0}
		var blocked *Blocked
		if !errors.As(s.mendable(s.suspect(err)), &blocked) {
			return ""
		}
		return blocked.Verdict
	}
	expect := func(step, want, got string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: blocked by %q, not %q", step, got, want)
		}
	}
	expect("diverged without any fence", "diverged", end(diverged))
	for range 2 { // the second time all over again, after somebody has decided
		expect("first fence", "", end(fenced))
		expect("second fence", "", end(fenced))
		expect("third fence", rivalCase, end(fenced))
	}
	reader := &session{relay: relay, cfg: &relay.cfg, control: conn, storing: make(chan struct{}, 1), generation: 5}
	if err := reader.announce(fenced); !errors.Is(err, fencedError{}) || relay.fences != 0 {
		t.Errorf("the reader makes %v of a fence, and counts %d: the end of the session counts it", err, relay.fences)
	}
	expect("first fence", "", end(fenced))
	expect("its events in our partitions", rivalCase, end(diverged))
	expect("the same after a restart", rivalCase, end(diverged, true))
	expect("another verdict", "kafka lost data", end(asSink(judgedError{"kafka lost data"})))

	expect("first fence", "", end(fenced))
	expect("second fence", "", end(fenced))
	relay.lastFence = time.Now().Add(-2 * rivalWindow)
	expect("a fence long after the one before", "", end(fenced))

	run(t, conn, `update outrider.checkpoint set generation = 6`)
	for range 2 * rivalFences {
		expect("a fence by whoever leads now", "", end(fenced))
	}
	if s := (&session{relay: relay, cfg: &relay.cfg, control: conn, storing: make(chan struct{}, 1)}).rival("x", nil); !strings.Contains(s.Advice, "outrider resolve --name orders --accept-repeats") {
		t.Errorf("the advice is %q", s.Advice)
	}
}
