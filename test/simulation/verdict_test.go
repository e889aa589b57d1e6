package simulation

import (
	"encoding/json"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/checkpoint"
)

// judgements are what only a person can judge, and the verdict that the relay has to come to. after is done to the servers
// when it has relayed for a while; it gets an image of Postgres from before.
var judgements = []struct {
	claim   string
	stopped bool // the relay is killed before, and started after
	after   func(w *world, before *image)
	verdict string
}{
	{"a backup is restored", false, func(w *world, before *image) { w.restore(before, false) }, "diverged"},
	{"a standby is promoted that had not received everything", false, func(w *world, before *image) { w.restore(before, true) }, "diverged"},
	{"a standby is promoted that has no slot", false, func(w *world, _ *image) {
		w.pg.crash()
		w.pg.drop()
		w.pg.promote()
	}, "gap"},
	{"the slot is dropped", true, func(w *world, _ *image) { w.pg.drop() }, "gap"},
	{"the slot is advanced by somebody else", true, func(w *world, _ *image) {
		time.Sleep(time.Second) // for commits that the relay does not see
		w.pg.advance()
	}, "gap"},
	{"the slot is dropped and made anew", true, func(w *world, _ *image) {
		time.Sleep(time.Second)
		w.pg.remake()
	}, "gap"},
	{"the WAL that the slot needs is removed", true, func(w *world, _ *image) { w.pg.invalidate() }, "gap"},
	{"another database system is there", true, func(w *world, _ *image) { w.pg.replace() }, "other cluster"},
	{"another Kafka cluster is there", true, func(w *world, _ *image) { w.kafka.locked(func() { w.kafka.id = "another" }) }, "other cluster"},
	{"a topic is made anew while the relay is away", true, func(w *world, _ *image) { w.recreate() }, "kafka lost data"},
	{"a topic is made anew while the relay runs", false, func(w *world, _ *image) { w.recreate() }, "kafka lost data"},
	{"records are removed that nobody knows of", true, func(w *world, _ *image) {
		w.kafka.locked(func() {
			for _, p := range w.kafka.sorted() {
				p.clear()
			}
		})
	}, "tail incomplete"},
}

func TestWhatOnlyAPersonCanJudgeIsAVerdict(t *testing.T) {
	for _, j := range judgements {
		t.Run(j.claim, func(t *testing.T) {
			for seed := range uint64(2) {
				synctest.Test(t, func(t *testing.T) {
					p := planFor(seed, cdc.ExactlyOnce)
					p.faults, p.standby, p.checkpoint, p.poison, p.late = 0, false, time.Second, 0, false
					p.length, p.pace = time.Minute, 40*time.Millisecond
					w := newWorld(seed, p)
					w.kafka.sluggish = false // until what was sent first is stored, no place in a log is known as the relay's own
					w.runToVerdict(j.stopped, j.after, j.verdict)
					if len(w.failures) > 0 {
						t.Errorf("seed %d: %s\n%s", seed, w.failures[0], w.history())
					}
				})
			}
		})
	}
}

// runToVerdict is a history that comes to a verdict, and goes on when somebody has decided.
func (w *world) runToVerdict(stopped bool, after func(*world, *image), verdict string) {
	w.nemesis.launch("a")
	for !w.pg.has("outrider_model") {
		time.Sleep(10 * time.Millisecond)
	}
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		newWriter(w).run(w.began.Add(w.plan.length))
	}()
	time.Sleep(20 * time.Second) // for the places to scan from to be written
	before := w.pg.image()
	time.Sleep(20 * time.Second)
	if stopped {
		w.nemesis.relay("a").kill(false, false)
	}
	w.mu.Lock()
	w.expected = verdict // and it may come only once
	w.mu.Unlock()
	after(w, before)
	if stopped {
		w.nemesis.launch("a")
	}
	<-writing
	for began := time.Now(); !w.judged(verdict); time.Sleep(time.Second) {
		if w.failed() || time.Since(began) > 5*time.Minute {
			w.fail("no verdict %q", verdict)
			break
		}
	}
	<-w.nemesis.relay("a").done
	w.pg.dropLost()
	if w.failed() || !w.decide(verdict) {
		w.net.end()
		return
	}
	w.oracle.accept("new")
	w.nemesis.launch("a")
	for began := time.Now(); !w.pg.settled() && time.Since(began) < time.Minute; {
		time.Sleep(10 * time.Millisecond)
	}
	x := newWriter(w)
	x.keys, x.ids = "new", 1_000_000
	x.run(time.Now().Add(20 * time.Second))
	w.settle()
	w.nemesis.relay("a").stop()
	<-w.nemesis.relay("a").done
	w.net.end()
}

// settled says whether the decision has been taken: the relay streams.
func (s *server) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows["model"]["verdict"] == nil
}

// decide takes the first of the options that the verdict in the row gives, as `outrider resolve` does.
func (w *world) decide(name string) bool {
	w.pg.mu.Lock()
	defer w.pg.mu.Unlock()
	row := w.pg.rows["model"]
	text, _ := row["verdict"].([]byte)
	var v checkpoint.Verdict
	if err := json.Unmarshal(text, &v); err != nil || v.Case != name || len(v.Options) == 0 {
		w.fail("the row holds verdict %s, not %q", text, name)
		return false
	}
	decision, err := json.Marshal(checkpoint.Decision{Verdict: v.ID, Action: v.Options[0], By: "simulation", At: time.Now()})
	if err != nil {
		panic(err)
	}
	row["decision"] = decision
	w.note("decided: %s", v.Options[0])
	return true
}

// restore takes the server back to an image, as a standby that was promoted or as it was.
func (w *world) restore(before *image, promoted bool) {
	w.pg.crash()
	w.oracle.forget(w.pg.restore(before))
	if promoted {
		w.pg.promote()
	} else {
		w.pg.start()
	}
}

func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.slots)
}

func (s *server) advance() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.slots {
		sl.confirmed = s.end
	}
}

func (s *server) remake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.slots {
		s.slots[name] = &slot{name: name, confirmed: s.end, saved: s.end, restart: s.end}
	}
}

func (s *server) invalidate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.slots {
		sl.lost = true
	}
}

// dropLost drops what can never be read again, as the verdict's advice says.
func (s *server) dropLost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.slots, func(_ string, sl *slot) bool { return sl.lost })
}

func (s *server) replace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.systemID = "7000000000000000002"
}

func (w *world) recreate() {
	w.kafka.locked(func() { w.kafka.create("outbox.event.order", 3) })
}

// A walsender lets a shutdown wait until what it sent is confirmed, which a relay can do no more once its other connections
// have been ended.
func TestShutdownOfPostgresWaitsForNoRelay(t *testing.T) {
	for claim, before := range map[string]func(w *world){
		"while it relays": func(*world) {},
		"while Kafka is away": func(w *world) {
			for id := range int32(3) {
				w.kafka.stop(id + 1)
			}
			time.Sleep(10 * time.Second)
		},
	} {
		t.Run(claim, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := planFor(1, cdc.ExactlyOnce)
				p.far, p.late = 1, false
				w := newWorld(1, p)
				w.nemesis.launch("a")
				for !w.pg.has("outrider_model") {
					time.Sleep(10 * time.Millisecond)
				}
				writing := newWriter(w)
				writing.run(time.Now().Add(10 * time.Second))
				before(w)
				w.pg.stop()
				stopped := time.Now()
				for !w.pg.is(down) && time.Since(stopped) < time.Minute {
					time.Sleep(time.Millisecond)
				}
				if took := time.Since(stopped); took > 500*time.Millisecond {
					t.Errorf("the shutdown took %s\n%s", took, w.history())
				}
				w.nemesis.relay("a").kill(false, false)
				w.net.end()
			})
		})
	}
}
