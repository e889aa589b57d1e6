// Package checkpoint knows how much of the log is proven delivered, and keeps it durably.
package checkpoint

import (
	"fmt"
	"sort"
	"sync"

	"github.com/jackc/pglogrepl"
)

// Tracker turns commit marks and acks into the LSN below which everything is delivered.
//
// Events are numbered from 0 in the order in which they arrive, and whoever delivers them can tell the smallest
// number that is not acked yet. A mark ties the two together: a transaction ended at this LSN, and the next event
// gets that number. The safe LSN is then the end of the last mark below every unacked event. The work is per commit
// and per save, none per event.
//
// The zero value is ready. The reader of the stream calls Mark, the saver calls Safe and Stored; any goroutine may
// call the rest.
type Tracker struct {
	mu     sync.Mutex // held for a few instructions, never while oldest is asked
	marks  ring       // above safe; numbers and LSNs both increase strictly
	last   mark       // the latest mark, also when it has left the ring
	safe   mark       // the last mark found to be delivered
	stored mark       // what the saver says is durable; its number may lag behind its LSN, never lead
}

// A mark says that a transaction ended at end, and that the event after it has number next: once every number
// below next is acked, everything before end is delivered.
type mark struct {
	next uint64
	end  pglogrepl.LSN
}

// Mark notes that a transaction ended at end and that the next event will be number next. A keepalive between two
// transactions is the commit of a transaction with nothing for us. oldest, as Safe asks for it, must already know
// of every unacked event below next. Numbers never decrease; an LSN that does not lie above the last one brings
// nothing and is ignored, as the first keepalive after START_REPLICATION may lie below what was confirmed.
func (t *Tracker) Mark(next uint64, end pglogrepl.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if next < t.last.next {
		// A lower number with a higher LSN would let safe pass unacked events.
		panic(fmt.Sprintf("checkpoint: mark %d at %s after mark %d at %s", next, end, t.last.next, t.last.end))
	}
	if end <= t.last.end {
		return
	}
	t.last = mark{next, end}
	// With no event between two marks the later one says all: any number of keepalives behind an unacked event
	// keep one mark.
	if t.marks.n > 0 && t.marks.at(t.marks.n-1).next == next {
		t.marks.at(t.marks.n - 1).end = end
		return
	}
	t.marks.push(t.last)
}

// Safe returns the end of the last mark whose number is not above oldest(), the smallest number not acked yet
// (math.MaxUint64 when all are): everything before it is delivered. It is 0 until a mark is, and never decreases.
//
// The order matters: what is marked is read first and oldest is asked after it. The other way round, with nothing
// unacked, oldest would allow everything; then an event arrives, its commit is marked, and safe passes it.
func (t *Tracker) Safe(oldest func() uint64) pglogrepl.LSN {
	t.mu.Lock()
	seen := t.last.next
	t.mu.Unlock()

	// A mark merged in between keeps its number, and so still says the truth about it.
	limit := min(seen, oldest())

	t.mu.Lock()
	defer t.mu.Unlock()
	used := t.marks.n
	// safe never passes an unacked event: every number below limit is acked.
	if passed := sort.Search(used, func(i int) bool { return t.marks.at(i).next > limit }); passed > 0 {
		t.safe = *t.marks.at(passed - 1)
		t.marks.pop(passed)
	}
	t.marks.shrink(used)
	return t.safe.end
}

// Stored notes that the checkpoint is durable up to end, which is what Safe returned last, or where the session starts.
func (t *Tracker) Stored(end pglogrepl.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stored.end = max(t.stored.end, end)
	if end >= t.safe.end {
		t.stored.next = t.safe.next
	}
}

// StoredNext returns a number below which every event is stored.
func (t *Tracker) StoredNext() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stored.next
}

// Gain returns how far safe runs ahead of the stored checkpoint, in events and in bytes of WAL: what a save would bring.
func (t *Tracker) Gain() (events, wal uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.safe.since(t.stored)
}

// Received returns the end of the latest mark: the last commit, or keepalive, that the stream has delivered to us.
func (t *Tracker) Received() pglogrepl.LSN {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last.end
}

// Ahead returns how far the received transactions run ahead of the stored checkpoint: in events, and in bytes of WAL,
// which a restart would have to decode again. The transaction whose commit has not arrived yet does not count, since
// nothing of it could be stored.
func (t *Tracker) Ahead() (events, wal uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last.since(t.stored)
}

// since is the distance from an earlier mark to m.
func (m mark) since(earlier mark) (events, wal uint64) {
	if m.end <= earlier.end {
		return 0, 0
	}
	return m.next - earlier.next, uint64(m.end - earlier.end)
}

// ring is a queue of marks. It grows by doubling, so that marking allocates nothing once it fits the distance between two saves.
type ring struct {
	buf  []mark // its length is a power of two, or 0
	head int
	n    int
}

// ringMin is what a ring starts with and shrinks to, in marks of 16 bytes.
const ringMin = 256

func (r *ring) at(i int) *mark { return &r.buf[(r.head+i)&(len(r.buf)-1)] }

func (r *ring) push(m mark) {
	if r.n == len(r.buf) {
		r.resize(max(ringMin, 2*len(r.buf)))
	}
	r.n++
	*r.at(r.n - 1) = m
}

func (r *ring) pop(k int) {
	r.head = (r.head + k) & (len(r.buf) - 1)
	r.n -= k
}

// shrink halves a ring that was less than a quarter full before it was emptied, so that the memory of a long stall
// is given back, and a steady load keeps what it needs.
func (r *ring) shrink(used int) {
	if len(r.buf) > ringMin && used < len(r.buf)/4 {
		r.resize(len(r.buf) / 2)
	}
}

func (r *ring) resize(size int) {
	buf := make([]mark, size)
	for i := range r.n {
		buf[i] = *r.at(i)
	}
	r.buf, r.head = buf, 0
}
