package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Report is what a run did, and the verdict.
type Report struct {
	Seed     uint64  `json:"seed"`
	Postgres int     `json:"postgres"`
	Kafka    string  `json:"kafka"`
	Seconds  float64 `json:"seconds"` // in which things broke

	Events       int            `json:"events"`       // committed, and in Kafka at the end
	Transactions int            `json:"transactions"` // committed
	RolledBack   int            `json:"rolled_back"`  // transactions
	DeadLetters  int            `json:"dead_letters"`
	Faults       map[string]int `json:"faults"`  // how often each was there
	Skipped      map[string]int `json:"skipped"` // how often each could not be made
	Kills        int            `json:"kills"`   // of relays, brokers and servers
	Takeovers    int            `json:"takeovers"`
	Sessions     int64          `json:"sessions"` // begun by all relays
	Decisions    int            `json:"decisions"`
	LiveChecks   int            `json:"live_checks"` // of the slot against Kafka

	Lost       int `json:"lost"`
	Repeated   int `json:"repeated"`
	Misordered int `json:"misordered"`
	// Pardoned are events that a verdict, by its own words, lets be lost or repeated.
	Pardoned int `json:"pardoned"`

	// Unavailable is the longest time without a delivered row in which nothing but relays was taken away; LongestGap the
	// longest of all.
	Unavailable float64 `json:"longest_unavailable_seconds"`
	LongestGap  float64 `json:"longest_gap_seconds"`

	Violations []Violation `json:"violations"`
}

// Violation is a broken promise.
type Violation struct {
	Kind  string        `json:"kind"`
	After time.Duration `json:"after_ns"` // since the first row
	// Text has the event, its transaction in the journal, and where it is in the log of Postgres and in Kafka.
	Text string `json:"text"`
}

// Kinds of violations.
const (
	lostEvent      = "lost"
	repeatedEvent  = "repeated"
	misordered     = "misordered"
	overtaken      = "overtaken"       // a later one of its aggregate is in Kafka, and it is not
	invented       = "invented"        // never written, or rolled back
	altered        = "altered"         // other bytes, another topic or key than written
	misplaced      = "wrong position"  // the position in its header is not that of Postgres
	confirmedEarly = "confirmed early" // the slot let go of what is not in Kafka
	blockedRelay   = "blocked"         // a verdict that nothing explains
	endedRelay     = "ended"           // a process that ended by itself, or otherwise than it should
	stuckRelay     = "stuck"           // nothing is broken any more, and something does not come
)

// violationsKept bounds the report. Those that come later are counted by kind alone.
const violationsKept = 100

// tally collects what goes into a report.
type tally struct {
	mu      sync.Mutex
	report  Report
	began   time.Time // of the first row
	dropped int
	first   chan struct{} // closed at the first violation
	once    sync.Once
}

func newTally(p Plan) *tally {
	return &tally{report: Report{Seed: p.Seed, Faults: make(map[string]int), Skipped: make(map[string]int)}, began: time.Now(), first: make(chan struct{})}
}

// violate books a violation.
func (t *tally) violate(kind, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch kind {
	case lostEvent:
		t.report.Lost++
	case repeatedEvent:
		t.report.Repeated++
	case misordered:
		t.report.Misordered++
	}
	t.once.Do(func() { close(t.first) })
	if len(t.report.Violations) == violationsKept {
		t.dropped++
		return
	}
	v := Violation{Kind: kind, After: time.Since(t.began), Text: fmt.Sprintf(format, args...)}
	t.report.Violations = append(t.report.Violations, v)
	say("VIOLATION, %s: %s", v.Kind, v.Text)
}

// begin starts the clock of the violations.
func (t *tally) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began = time.Now()
}

// violated says whether there is a violation.
func (t *tally) violated() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.report.Violations) > 0
}

// count changes the report.
func (t *tally) count(change func(*Report)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.report)
}

func (r Report) String() string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-26s "+format+"\n", append([]any{what}, args...)...)
	}
	line("seed", "%d", r.Seed)
	line("servers", "PostgreSQL %d and a standby, Apache Kafka %s of three nodes, two relays", r.Postgres, r.Kafka)
	line("time", "%s", time.Duration(r.Seconds*float64(time.Second)).Round(time.Second))
	line("events", "%d in %d transactions; %d transactions rolled back", r.Events, r.Transactions, r.RolledBack)
	line("dead letters", "%d", r.DeadLetters)
	total := 0
	for _, n := range r.Faults {
		total += n
	}
	line("faults", "%d of %d kinds", total, len(r.Faults))
	for _, f := range slices.Concat(faults, staged) {
		if n := r.Faults[f.name]; n > 0 {
			line("", "%4d %-24s %s", n, f.name, f.does)
		}
	}
	for _, f := range slices.Concat(faults, staged) {
		if n := r.Skipped[f.name]; n > 0 {
			line("", "%4d %-24s could not be made", n, f.name)
		}
	}
	line("kills", "%d, of relays, brokers and servers", r.Kills)
	line("takeovers", "%d, in %d sessions", r.Takeovers, r.Sessions)
	line("decisions", "%d", r.Decisions)
	line("slot against Kafka", "%d times", r.LiveChecks)
	line("lost", "%d", r.Lost)
	line("repeated", "%d", r.Repeated)
	line("misordered", "%d", r.Misordered)
	if r.Pardoned > 0 {
		line("", "%d events were lost or repeated as a verdict had said", r.Pardoned)
	}
	line("longest unavailability", "%.1f s without a row while nothing but relays was taken away; %.1f s at all", r.Unavailable, r.LongestGap)
	const shown = 20
	for _, v := range r.Violations[:min(len(r.Violations), shown)] {
		fmt.Fprintf(&b, "\n%s, after %s:\n%s\n", v.Kind, v.After.Round(time.Millisecond), v.Text)
	}
	verdict := "no violation"
	if n := len(r.Violations); n > 0 {
		verdict = fmt.Sprintf("%d violations", n)
	}
	line("verdict", "%s", verdict)
	return b.String()
}
