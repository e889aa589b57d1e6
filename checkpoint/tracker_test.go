package checkpoint

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pglogrepl"
)

func acked(n uint64) func() uint64 { return func() uint64 { return n } }

var all = acked(math.MaxUint64)

func TestSafeIsTheEndOfTheLastCommitWithNothingUnackedBelow(t *testing.T) {
	type m struct {
		next uint64
		end  pglogrepl.LSN
	}
	for _, c := range []struct {
		name   string
		marks  []m
		oldest uint64
		want   pglogrepl.LSN
	}{
		{"nothing marked", nil, math.MaxUint64, 0},
		{"all acked", []m{{3, 100}, {5, 200}}, math.MaxUint64, 200},
		{"the first event of a transaction holds it back", []m{{3, 100}, {5, 200}}, 3, 100},
		{"the last event of a transaction holds it back", []m{{3, 100}, {5, 200}}, 4, 100},
		{"an event after the last commit holds nothing back", []m{{3, 100}, {5, 200}}, 5, 200},
		{"the very first event", []m{{3, 100}}, 0, 0},
		{"a keepalive behind acked events", []m{{3, 100}, {3, 150}}, 3, 150},
		{"a keepalive behind an unacked event", []m{{3, 100}, {3, 150}}, 2, 0},
		{"a keepalive before any event", []m{{0, 50}, {3, 100}}, 0, 50},
		{"an LSN below the last one", []m{{0, 50}, {0, 20}}, math.MaxUint64, 50},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tr Tracker
			for _, m := range c.marks {
				tr.Mark(m.next, m.end)
			}
			if got := tr.Safe(acked(c.oldest)); got != c.want {
				t.Errorf("safe = %s, want %s", got, c.want)
			}
		})
	}
}

func TestEventThatArrivesWhileOldestIsAskedIsNotPassed(t *testing.T) {
	var tr Tracker
	tr.Mark(1, 100)
	got := tr.Safe(func() uint64 {
		// Everything is acked; before the answer arrives, event 1 is appended and its commit marked.
		tr.Mark(2, 200)
		return math.MaxUint64
	})
	if got != 100 {
		t.Errorf("safe = %s, want 0/64: event 1 is not acked", got)
	}
	if got := tr.Safe(all); got != 200 {
		t.Errorf("safe = %s, want 0/C8", got)
	}
}

func TestKeepalivesBehindAnUnackedEventKeepTwoMarks(t *testing.T) {
	var tr Tracker
	tr.Mark(0, 10)
	for i := range pglogrepl.LSN(100_000) {
		tr.Mark(1, 20+i)
	}
	if tr.marks.n != 2 {
		t.Errorf("%d marks, want 2", tr.marks.n)
	}
	if got := tr.Safe(acked(0)); got != 10 {
		t.Errorf("safe = %s, want 0/A", got)
	}
	if got, want := tr.Safe(all), pglogrepl.LSN(20+99_999); got != want {
		t.Errorf("safe = %s, want %s", got, want)
	}
}

func TestNumberThatDecreasesIsABrokenInvariant(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic: safe could pass unacked events")
		}
	}()
	var tr Tracker
	tr.Mark(5, 100)
	tr.Mark(4, 200)
}

func TestDistancesFromStoredToSafeAndToReceived(t *testing.T) {
	var tr Tracker
	type distance struct{ events, wal uint64 }
	want := func(what string, gain, ahead distance) {
		t.Helper()
		var g, a distance
		g.events, g.wal = tr.Gain()
		a.events, a.wal = tr.Ahead()
		if g != gain || a != ahead {
			t.Errorf("%s: gain %v and ahead %v, want %v and %v", what, g, a, gain, ahead)
		}
	}
	tr.Stored(1000)
	want("at the start of a session", distance{}, distance{})
	tr.Mark(0, 900)
	tr.Safe(all)
	want("after a keepalive below the checkpoint", distance{}, distance{})
	tr.Mark(10, 1100)
	tr.Mark(30, 1500)
	want("before safe was asked", distance{}, distance{30, 500})
	safe := tr.Safe(acked(10))
	want("with the first transaction safe", distance{10, 100}, distance{30, 500})
	tr.Stored(safe)
	want("with the first transaction stored", distance{}, distance{20, 400})
	safe = tr.Safe(all)
	want("with all safe", distance{20, 400}, distance{20, 400})
	tr.Stored(safe)
	tr.Mark(30, 1600)
	tr.Safe(all)
	want("after an idle advance", distance{0, 100}, distance{0, 100})
	if got := tr.Received(); got != 1600 {
		t.Errorf("received = %s, want 0/640", got)
	}
}

func TestStallGivesItsMemoryBack(t *testing.T) {
	var tr Tracker
	for i := range uint64(1_000_000) {
		tr.Mark(i, pglogrepl.LSN(i+1))
	}
	if got := len(tr.marks.buf); got != 1<<20 {
		t.Errorf("room for %d marks, want %d", got, 1<<20)
	}
	for range 20 {
		tr.Safe(all)
	}
	if got := len(tr.marks.buf); got != ringMin {
		t.Errorf("room for %d marks after the stall, want %d", got, ringMin)
	}
}

func TestSteadyLoadAllocatesNothing(t *testing.T) {
	var tr Tracker
	var n uint64
	save := func() {
		for range 1000 {
			n++
			tr.Mark(n, pglogrepl.LSN(n))
		}
		tr.Safe(acked(n - 100))
	}
	save()
	save()
	if got := testing.AllocsPerRun(100, save); got != 0 {
		t.Errorf("%v allocations per save of 1000 commits, want 0", got)
	}
}

// model is the tracker as one would write it without caring for time and memory: it remembers everything.
type model struct {
	acked []bool
	marks []mark
}

func (m *model) oldest() uint64 {
	for i, a := range m.acked {
		if !a {
			return uint64(i)
		}
	}
	return math.MaxUint64
}

func (m *model) safe() pglogrepl.LSN {
	var safe pglogrepl.LSN
	oldest := m.oldest()
	for _, k := range m.marks {
		if k.next <= oldest {
			safe = max(safe, k.end)
		}
	}
	return safe
}

func TestTrackerAgreesWithModelOnRandomLogs(t *testing.T) {
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var (
			tr    Tracker
			m     model
			end   = pglogrepl.LSN(1000 + rnd.Uint64N(1000))
			burst = 1 + rnd.IntN(300) // some logs fill the ring between two saves, others hardly use it
		)
		m.marks = append(m.marks, mark{0, end})
		tr.Mark(0, end)
		for range 20 {
			for range rnd.IntN(burst) + 1 {
				switch rnd.IntN(6) {
				case 0, 1: // a transaction
					m.acked = append(m.acked, make([]bool, rnd.IntN(4))...)
					end += 1 + pglogrepl.LSN(rnd.Uint64N(100))
					m.marks = append(m.marks, mark{uint64(len(m.acked)), end})
					tr.Mark(uint64(len(m.acked)), end)
				case 2: // a keepalive, often where we are already, at times below
					at := end - 5 + pglogrepl.LSN(rnd.Uint64N(10))
					if at > end {
						end = at
						m.marks = append(m.marks, mark{uint64(len(m.acked)), at})
					}
					tr.Mark(uint64(len(m.acked)), at)
				case 3: // events of a transaction that has not committed yet
					m.acked = append(m.acked, false)
				default: // an ack; the partitions make any order possible
					if len(m.acked) > 0 {
						m.acked[rnd.IntN(len(m.acked))] = true
					}
				}
			}
			if rnd.IntN(3) == 0 { // the oldest partition catches up
				for i := range m.acked[:len(m.acked)/2] {
					m.acked[i] = true
				}
			}
			if got, want := tr.Safe(m.oldest), m.safe(); got != want {
				t.Fatalf("seed %d: safe = %s, want %s (oldest %d of %d)", seed, got, want, m.oldest(), len(m.acked))
			}
		}
	}
}

// One goroutine appends and marks, one acks, one asks for safe, as in a session. The end of transaction i is i+1 and
// it holds event i alone, so that safe tells directly how many events it claims to be delivered.
func TestSafeNeverPassesAnUnackedEventUnderConcurrency(t *testing.T) {
	const events = 100_000
	var (
		tr       Tracker
		appended atomic.Uint64 // events that oldest knows of
		acks     atomic.Uint64 // events acked
	)
	oldest := func() uint64 {
		if a := acks.Load(); a < appended.Load() {
			return a
		}
		return math.MaxUint64 // what a sink without anything unacked says, whatever is appended a moment later
	}
	var wg sync.WaitGroup
	var ended atomic.Bool
	wg.Go(func() {
		for i := range uint64(events) {
			appended.Store(i + 1)
			tr.Mark(i+1, pglogrepl.LSN(i+1))
			if i%64 == 0 {
				runtime.Gosched() // let the sink run dry now and then: the dangerous moment is "all acked"
			}
		}
	})
	wg.Go(func() {
		for a := uint64(0); a < events; {
			if a < appended.Load() {
				a++
				acks.Store(a)
			} else {
				runtime.Gosched()
			}
		}
	})
	go func() { wg.Wait(); ended.Store(true) }()

	var last pglogrepl.LSN
	for going := true; going; {
		going = !ended.Load() // once more after the end, when nothing holds safe back
		safe := tr.Safe(oldest)
		if a := acks.Load(); uint64(safe) > a {
			t.Fatalf("safe passed event %d, and only %d events are acked", safe-1, a)
		}
		if safe < last {
			t.Fatalf("safe went back from %s to %s", last, safe)
		}
		tr.Stored(safe)
		last = safe
	}
	if last != events {
		t.Errorf("safe = %d with everything acked, want %d", last, events)
	}
	if e, wal := tr.Ahead(); e != 0 || wal != 0 {
		t.Errorf("%d events and %d bytes ahead after everything was stored", e, wal)
	}
}

func BenchmarkMark(b *testing.B) {
	var tr Tracker
	b.ReportAllocs()
	var n uint64
	for b.Loop() {
		n++
		tr.Mark(n, pglogrepl.LSN(n))
		if n%100_000 == 0 {
			tr.Safe(all)
		}
	}
}
