package main

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// keys that rows have. Row n has key n modulo keys, and each key's rows are committed in the order of n.
const keys = 1000

// findings are what is wrong with the records of so many rows.
type findings struct {
	Lost       int `json:"lost"`       // rows without a record
	Repeated   int `json:"repeated"`   // records of rows that had one
	Misordered int `json:"misordered"` // rows that came after a later one of their key, or in another partition than it
	Foreign    int `json:"foreign"`    // records that are no row of ours
	// Uncounted says that the records do not tell which row they are of: how many there are is all that is known.
	Uncounted bool `json:"uncounted,omitempty"`
	// First is the first that is misordered or foreign.
	First string `json:"first,omitempty"`
}

// against says what breaks a delivery's promise; empty when nothing does.
func (f findings) against(delivery string) string {
	var all []string
	if f.Lost > 0 {
		all = append(all, fmt.Sprintf("%d rows lost", f.Lost))
	}
	if f.Repeated > 0 && delivery == exactlyOnce {
		all = append(all, fmt.Sprintf("%d records repeated", f.Repeated))
	}
	if f.Misordered > 0 {
		all = append(all, fmt.Sprintf("%d rows out of order", f.Misordered))
	}
	if f.Foreign > 0 {
		all = append(all, fmt.Sprintf("%d records of no row", f.Foreign))
	}
	if f.First != "" {
		all = append(all, "first: "+f.First)
	}
	return strings.Join(all, ", ")
}

// tally says of each row whether its record came, how often, and in which order. A record that comes again is no matter of
// order: a relay that starts over begins with what it may have sent.
type tally struct {
	findings
	seen  []bool
	count int // of records that are some row's, or may be
	last  [keys]lane
}

// lane is the latest of one key's rows.
type lane struct {
	n         int // 1 more; 0: none yet
	partition int32
}

func newTally(rows int) *tally { return &tally{seen: make([]bool, rows)} }

// take notes a record of row n. first is whether it is the row's first.
func (t *tally) take(n int, partition int32, offset int64) (first bool) {
	if n < 0 || n >= len(t.seen) {
		t.foreign(fmt.Sprintf("row %d of %d", n, len(t.seen)), partition, offset)
		return false
	}
	t.count++
	if t.seen[n] {
		t.Repeated++
		return false
	}
	t.seen[n] = true
	last := &t.last[n%keys]
	switch {
	case last.n > 0 && last.partition != partition:
		t.misordered(fmt.Sprintf("row %d is in partition %d, and row %d of its key in %d", n, partition, last.n-1, last.partition))
	case last.n > n:
		t.misordered(fmt.Sprintf("row %d came after row %d of its key, in partition %d at offset %d", n, last.n-1, partition, offset))
	default:
		*last = lane{n + 1, partition}
	}
	return true
}

// takeUncounted notes a record that does not tell its row.
func (t *tally) takeUncounted() { t.count, t.Uncounted = t.count+1, true }

func (t *tally) misordered(what string) {
	if t.Misordered++; t.First == "" {
		t.First = what
	}
}

func (t *tally) foreign(what string, partition int32, offset int64) {
	if t.Foreign++; t.First == "" {
		t.First = fmt.Sprintf("the record in partition %d at offset %d: %s", partition, offset, what)
	}
}

// finish gives what was found, when all records have been taken.
func (t *tally) finish() findings {
	f := t.findings
	if f.Uncounted {
		f.Lost, f.Repeated = max(0, len(t.seen)-t.count), max(0, t.count-len(t.seen))
		return f
	}
	for _, there := range t.seen {
		if !there {
			f.Lost++
		}
	}
	return f
}

// record takes one from Kafka.
func (t *tally) record(r *kgo.Record, a *adapter) (n int, first bool) {
	if a.Number == none {
		t.takeUncounted()
		return 0, false
	}
	n, err := a.number(r.Value)
	if err != nil {
		t.foreign(err.Error(), r.Partition, r.Offset)
		return 0, false
	}
	return n, t.take(n, r.Partition, r.Offset)
}
