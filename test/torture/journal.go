package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
)

// outcome is what became of a transaction.
type outcome uint8

const (
	open      outcome = iota // its writer is at it
	unknown                  // its writer asked for the commit, and heard nothing
	committed                // for good
	aborted                  // by its writer, or by an error before the commit was asked for
	forgotten                // committed on a primary whose successor had not received it
)

var outcomeNames = []string{"open", "unknown", "committed", "aborted", "committed, and lost by a failover"}

func (o outcome) String() string { return outcomeNames[o] }

// fate is what should become of a row of a committed transaction.
type fate uint8

const (
	live   fate = iota // its topic
	letter             // the topic of dead letters, and its partition waits until it is there
	stray              // that topic too; it has no partition
	either             // its topic or that of dead letters: what its topic takes has changed meanwhile
	undone             // nothing: rolled back to a savepoint
)

// nowhere is the place of a row that has not been seen in Kafka.
const nowhere = -1

// row is an event in the journal.
type row struct {
	version   uint32
	ordinal   int32 // within its transaction, as Kafka or the witness tells it; -1: not told yet
	aggregate uint8
	fate      fate
	copies    uint8
	pardoned  bool
	place     int16 // where it was first seen in Kafka
	offset    int64
}

// position is that of a transaction in the log.
type position struct {
	timeline uint32
	lsn      pglogrepl.LSN // of the commit record
}

func (p position) String() string { return fmt.Sprintf("%d:%s", p.timeline, p.lsn) }

// transaction is an entry in the journal.
type transaction struct {
	number  uint64
	what    string
	term    int // promotions before it
	xid     string
	gid     string // of a prepared one
	began   time.Time
	ended   time.Time
	outcome outcome
	why     string // it ended so
	rows    []row

	told      position // by the headers in Kafka; zero: not yet
	witnessed bool
	at        position      // by the witness
	end       pglogrepl.LSN // first byte after the commit, by the witness
}

// journal has every transaction, from before its commit on.
type journal struct {
	tally *tally

	mu           sync.Mutex
	transactions []*transaction // by number, which begins at 1
	witnessed    []*transaction // in commit order
	history      []branch
	pardons      []pardon
	places       places
	versions     versions
	term         int // promotions so far
}

// branch is where a timeline ends and the next one begins.
type branch struct {
	timeline uint32
	end      pglogrepl.LSN
}

// places numbers the partitions.
type places struct {
	names  []place
	number map[place]int16
}

type place struct {
	topic     string
	partition int32
}

func (p place) String() string { return fmt.Sprintf("%s/%d", p.topic, p.partition) }

func (p *places) of(topic string, partition int32) int16 {
	at := place{topic, partition}
	n, known := p.number[at]
	if !known {
		n = int16(len(p.names))
		p.names = append(p.names, at)
		p.number[at] = n
	}
	return n
}

func newJournal(t *tally) *journal {
	return &journal{tally: t, transactions: []*transaction{nil}, places: places{number: make(map[place]int16)}}
}

// begin opens an entry.
func (j *journal) begin(what string, term int) *transaction {
	j.mu.Lock()
	defer j.mu.Unlock()
	tx := &transaction{number: uint64(len(j.transactions)), what: what, term: term, began: time.Now()}
	j.transactions = append(j.transactions, tx)
	return tx
}

// plan notes rows before they are written, and gives the index of the first one.
func (j *journal) plan(tx *transaction, rows ...row) (first uint32) {
	j.mu.Lock()
	defer j.mu.Unlock()
	first = uint32(len(tx.rows))
	for _, r := range rows {
		r.ordinal, r.place = -1, nowhere
		j.versions.plan(r.aggregate, r.version, eventID{tx.number, uint32(len(tx.rows))})
		tx.rows = append(tx.rows, r)
	}
	return first
}

// undo notes that rows from first on were rolled back to a savepoint.
func (j *journal) undo(tx *transaction, first uint32) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := first; i < uint32(len(tx.rows)); i++ {
		tx.rows[i].fate = undone
	}
}

// close notes how a transaction ended. It is false where a commit was on a primary that has been replaced meanwhile: then its
// successor has to be asked.
func (j *journal) close(tx *transaction, o outcome, why string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if o == committed && tx.term < j.term {
		tx.outcome, tx.why = unknown, "its primary was replaced"
		return false
	}
	j.settle(tx, o, why)
	return true
}

// settle notes what is known now. j.mu is held.
func (j *journal) settle(tx *transaction, o outcome, why string) {
	tx.outcome, tx.why, tx.ended = o, why, time.Now()
	if o != aborted && o != forgotten {
		return
	}
	for i := range tx.rows {
		if r := &tx.rows[i]; r.copies > 0 && !r.pardoned {
			j.tally.violate(invented, "an event of a transaction that is %s is in Kafka\n%s", o, j.describe(tx, uint32(i)))
		}
	}
}

// find gives a row by its id; nil where there is no such.
func (j *journal) find(id eventID) (*transaction, *row) {
	if id.transaction == 0 || id.transaction >= uint64(len(j.transactions)) {
		return nil, nil
	}
	tx := j.transactions[id.transaction]
	if id.row >= uint32(len(tx.rows)) {
		return nil, nil
	}
	return tx, &tx.rows[id.row]
}

// promoted begins a term, with the history of the new primary, and gives the numbers of the transactions that were committed in
// the one before: the new primary has to say which of them it has.
func (j *journal) promoted(history []branch) (numbers []int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, tx := range j.transactions[1:] {
		if tx.term == j.term && tx.outcome == committed {
			numbers = append(numbers, int64(tx.number))
		}
	}
	j.term++ // from now on nobody can commit in the old one
	j.history = history
	return numbers
}

// forget notes what the new primary does not have.
func (j *journal) forget(numbers []int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, n := range numbers {
		j.settle(j.transactions[n], forgotten, "the new primary does not have it")
	}
}

// note changes an entry that others may be reading.
func (j *journal) note(change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change()
}

// timelineOf is the timeline that owns an LSN. j.mu is held.
func (j *journal) timelineOf(lsn pglogrepl.LSN) uint32 {
	for _, b := range j.history {
		if lsn < b.end {
			return b.timeline
		}
	}
	return uint32(len(j.history)) + 1
}

// describe tells everything about an event. j.mu is held.
func (j *journal) describe(tx *transaction, index uint32) string {
	r := &tx.rows[index]
	var b strings.Builder
	fmt.Fprintf(&b, "  event    %s, row %d of transaction %d: %s-%d version %d", eventID{tx.number, index}, index, tx.number, kinds[int(r.aggregate)%len(kinds)], r.aggregate, r.version)
	fmt.Fprintf(&b, "\n  journal  %s, %s, xid %s, %d rows, term %d, began %s", tx.what, tx.outcome, tx.xid, len(tx.rows), tx.term, tx.began.Format("15:04:05.000"))
	if !tx.ended.IsZero() {
		fmt.Fprintf(&b, ", ended %s", tx.ended.Format("15:04:05.000"))
	}
	if tx.why != "" {
		fmt.Fprintf(&b, " (%s)", tx.why)
	}
	if tx.witnessed {
		fmt.Fprintf(&b, "\n  log      commit %s, end %s, ordinal %d", tx.at, tx.end, r.ordinal)
	} else {
		fmt.Fprintf(&b, "\n  log      not seen by the witness")
	}
	if r.place == nowhere {
		fmt.Fprintf(&b, "\n  Kafka    not there")
	} else {
		fmt.Fprintf(&b, "\n  Kafka    %s@%d, position %s:%d", j.places.names[r.place], r.offset, tx.told, r.ordinal)
	}
	return b.String()
}
