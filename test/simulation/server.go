package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
)

type lsn = pglogrepl.LSN

// event is a row of the outbox.
type event struct {
	id, kind, key string
	version       int  // of the key, in commit order
	poison        bool // no topic takes it but that of the dead letters
}

// change is an inserted row in WAL.
type change struct {
	at lsn
	event
}

// commit is a transaction that was committed.
type commit struct {
	lsn, end lsn // of the commit record
	at       time.Time
	changes  []change
}

// slot is a logical replication slot.
type slot struct {
	name      string
	confirmed lsn
	saved     lsn // confirmed as it is on disk, which is all that a crash leaves
	restart   lsn // decoding begins here
	pid       uint32
	synced    bool
	lost      bool // its WAL has been removed
}

// serverState says whether connections are taken.
type serverState int

const (
	running serverState = iota
	stopping
	down
)

// pastTimeline is a timeline that was left at end.
type pastTimeline struct {
	id  uint32
	end lsn
}

// server is a PostgreSQL server: its WAL, one slot, the relay's tables.
type server struct {
	systemID      string
	senderTimeout time.Duration // wal_sender_timeout
	obeysLower    bool          // a flush position below the confirmed one is taken, as by releases before 18
	// confirmedTo is told of each flush position that moves a slot, under the lock.
	confirmedTo func(flush lsn)
	// storedTo is told of each row of outrider.checkpoint that is written, and of the LSN before; likewise.
	storedTo func(before lsn, r row)
	// unknown is told of a statement that the model cannot run.
	unknown func(sql string)
	journey *journey
	full    atomic.Bool // no connection is left for who comes now

	mu       sync.Mutex
	rng      *rand.Rand
	state    serverState
	timeline uint32
	past     []pastTimeline
	started  time.Time
	end      lsn // of WAL
	commits  []*commit
	slots    map[string]*slot
	rows     map[string]row               // outrider.checkpoint by name
	places   map[string]map[place]scanRow // outrider.partition by name
	backends map[uint32]*backend
	lastPID  uint32
}

// scanRow is a row of outrider.partition.
type scanRow struct {
	from  int64
	owned bool
}

func newServer(seed uint64) *server {
	return &server{
		systemID: "7000000000000000001", senderTimeout: 10 * time.Second, confirmedTo: func(lsn) {}, storedTo: func(lsn, row) {}, unknown: func(string) {}, journey: newJourney(),
		rng: random(seed, "server"), timeline: 1, started: time.Now(), end: 0x1000000, slots: make(map[string]*slot),
		rows: make(map[string]row), places: make(map[string]map[place]scanRow), backends: make(map[uint32]*backend),
	}
}

// write appends a record of so many bytes to WAL, and gives its place.
func (s *server) write(bytes lsn) (at lsn) {
	at = s.end
	s.end += (bytes + 7) &^ 7
	return at
}

// insert writes a row of a transaction that is open.
func (s *server) insert(tx *[]change, e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*tx = append(*tx, change{s.write(lsn(120 + s.rng.IntN(200))), e})
}

// commit ends a transaction.
func (s *server) commit(changes []change) *commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &commit{lsn: s.write(0x30), at: time.Now().UTC().Truncate(time.Microsecond), changes: changes}
	c.end = s.end
	s.commits = append(s.commits, c)
	s.wake()
	return c
}

// noise is WAL that is not the outbox's.
func (s *server) noise(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(lsn(bytes))
	s.wake()
}

// wake tells all walsenders that there is something to do.
func (s *server) wake() {
	for _, b := range s.backends {
		b.tell()
	}
}

// confirm is what a flush position in a status report does. Nothing looks at whether it is right.
func (s *server) confirm(sl *slot, flush lsn) {
	if flush == 0 || flush <= sl.confirmed && !s.obeysLower && !plantedIn(flushGoesBack) || flush > s.end && plantedIn(futureIgnored) {
		return
	}
	if s.rng.IntN(3) > 0 {
		sl.restart = sl.confirmed // decoding must begin before what is still wanted
	}
	if sl.confirmed = flush; s.rng.IntN(8) == 0 {
		sl.saved = flush // by a checkpoint of the server
	}
}

// crash takes the server down at once. The slots are as they were on disk.
func (s *server) crash() {
	s.mu.Lock()
	s.state = down
	backends := s.backends
	s.backends = make(map[uint32]*backend)
	for _, sl := range s.slots {
		if sl.pid = 0; !plantedIn(crashesForgetNone) {
			sl.confirmed = sl.saved
		}
		sl.restart = min(sl.restart, sl.confirmed)
	}
	s.write(8)
	lost := [2]bool{s.rng.IntN(2) == 0, true}
	s.mu.Unlock()
	for _, b := range backends {
		b.cut(lost)
	}
}

// stop is a fast shutdown: ordinary connections end, walsenders only when what they have sent is confirmed.
func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = stopping
	s.write(0x70) // the shutdown checkpoint
	for pid, b := range s.backends {
		if b.slot == nil {
			b.terminate("57P01", "terminating connection due to administrator command")
			delete(s.backends, pid)
		}
		b.tell()
	}
	s.stopped()
}

// stopped notes the end of a shutdown, when the last walsender is gone.
func (s *server) stopped() {
	if s.state == stopping && len(s.backends) == 0 {
		s.state = down
		for _, sl := range s.slots { // PostgreSQL 15 does not write what was confirmed last
			sl.confirmed = sl.saved
			sl.restart = min(sl.restart, sl.confirmed)
		}
	}
}

// promote takes up, instead of a server that crashed, a standby that had received everything. It goes on under a new
// timeline; its slot is a copy that was made now and then (PostgreSQL docs, "Replication Slot Synchronization").
func (s *server) promote() {
	s.mu.Lock()
	s.past = append(s.past, pastTimeline{s.timeline, s.end})
	s.timeline++
	for _, sl := range s.slots {
		sl.synced = true
	}
	s.mu.Unlock()
	s.start()
}

// start takes the server up again.
func (s *server) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.started = running, time.Now()
	s.write(0x100)
}

// terminate ends the walsender that holds a slot, as pg_terminate_backend does.
func (s *server) terminate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid, b := range s.backends {
		if b.slot != nil {
			b.slot.pid = 0
			delete(s.backends, pid)
			b.terminate("57P01", "terminating connection due to administrator command")
		}
	}
	s.stopped()
}

func (s *server) is(state serverState) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == state
}

// enter gives a process to a connection.
func (s *server) enter(b *backend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastPID++
	b.pid = s.lastPID
	s.backends[b.pid] = b
}

// leave ends it; a slot that it holds is free.
func (s *server) leave(b *backend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.backends[b.pid] != b {
		return
	}
	delete(s.backends, b.pid)
	if b.slot != nil && b.slot.pid == b.pid {
		b.slot.pid = 0
	}
	s.stopped()
}

// has says whether there is a slot of that name.
func (s *server) has(slot string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots[slot] != nil
}

// wanted gives the places in Kafka's logs from which on a restart of the relay reads.
func (s *server) wanted() map[place]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := make(map[place]int64)
	for at, r := range s.places["model"] {
		from[at] = r.from
	}
	return from
}

// slotJSON is a row of pg_replication_slots.
func (s *server) slotJSON(name string) []byte {
	sl := s.slots[name]
	if sl == nil {
		return nil
	}
	pid := "null"
	if sl.pid != 0 {
		pid = strconv.Itoa(int(sl.pid))
	}
	status := "reserved"
	if sl.lost {
		status = "lost"
	}
	return fmt.Appendf(nil, `{"slot_name": %q, "plugin": "pgoutput", "database": "model", "two_phase": false, "active": %t, "active_pid": %s,
		"restart_lsn": %q, "confirmed_flush_lsn": %q, "wal_status": %q, "synced": %t, "failover": false, "invalidation_reason": null, "conflicting": false}`,
		sl.name, sl.pid != 0, pid, sl.restart, sl.confirmed, status, sl.synced)
}

// from gives the first transaction that lies at or above a position in WAL.
func (s *server) from(at lsn) int {
	i, _ := slices.BinarySearchFunc(s.commits, at, func(c *commit, at lsn) int {
		if c.lsn < at {
			return -1
		}
		return 1
	})
	return i
}
