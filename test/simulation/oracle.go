package simulation

import (
	"fmt"
	"strings"
	"sync"

	"github.com/outrider-relay/outrider/cdc"
)

// oracle knows what was committed, and looks at what arrives in Kafka.
type oracle struct {
	w *world

	mu sync.Mutex
	// since, once it is set, is the key's prefix of the events that still count: what a person has accepted is done with.
	since     string
	committed map[string]event
	order     []*commit
	safe      int                // of order: those before are known to be in Kafka
	whole     int                // likewise, as missing has found
	times     map[string]int     // how often each event has arrived
	latest    map[string]int     // by key: the highest version that has arrived
	within    map[string]*commit // the transaction of each event
	stored    lsn                // the checkpoint
	newest    int64              // producer id that was given last
	began     lsn                // the checkpoint at that time
	versions  map[string]int     // by key: of what was committed last
}

func newOracle(w *world) *oracle {
	return &oracle{w: w, committed: make(map[string]event), times: make(map[string]int), latest: make(map[string]int), within: make(map[string]*commit), versions: make(map[string]int)}
}

// promise notes what a transaction is about to commit: from here on it may arrive.
func (o *oracle) promise(changes []change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range changes {
		o.committed[c.id] = c.event
	}
}

// commits notes that it is committed.
func (o *oracle) commits(c *commit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.order = append(o.order, c)
	for _, change := range c.changes {
		o.within[change.id] = c
	}
}

// produces notes that a producer id was given to a session. The cluster's lock is held.
func (o *oracle) produces(id int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.newest, o.began = id, o.stored
}

// took looks at a batch that was appended. The cluster's lock is held.
func (o *oracle) took(p *partition, b batch) {
	records, err := b.records()
	if err != nil {
		o.w.fail("%s/%d at %d: %v", p.topic, p.id, b.offset, err)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, r := range records {
		id := ""
		for _, h := range r.Headers {
			if h.Key == "id" {
				id = string(h.Value)
			}
		}
		o.arrived(arrival{p, &b, i}, string(r.Key), id)
	}
}

// arrival is where a record lies.
type arrival struct {
	p *partition
	b *batch
	i int // in the batch
}

func (a arrival) String() string {
	return fmt.Sprintf("%s/%d at %d (producer %d, epoch %d, sequence %d)", a.p.topic, a.p.id, a.b.offset+int64(a.i), a.b.producer, a.b.epoch, a.b.seq+int32(a.i))
}

// arrived looks at one record.
func (o *oracle) arrived(where arrival, key, id string) {
	if !strings.HasPrefix(key, o.since) {
		return
	}
	e, known := o.committed[id]
	if !known {
		o.w.fail("%s: event %q was never committed", where, id)
		return
	}
	topic := "outbox.event." + e.kind
	if e.poison {
		topic = deadLetters
	}
	if where.p.topic != topic || key != e.key {
		o.w.fail("%s: event %v has another topic or key (%s)", where, e, key)
	}
	o.times[id]++
	if o.times[id] > 1 {
		switch c := o.within[id]; {
		case o.w.plan.delivery == cdc.ExactlyOnce:
			o.w.fail("%s: event %v is there %d times", where, e, o.times[id])
		case where.b.producer == o.newest && c.end <= o.began: // an older session's last requests may come at any time
			o.w.fail("%s: event %v is there %d times, and lies below %s, which was stored when the session began", where, e, o.times[id], o.began)
		}
		return
	}
	if last := o.latest[e.kind+e.key]; e.version != last+1 {
		o.w.fail("%s: event %v comes after version %d", where, e, last)
	}
	o.latest[e.kind+e.key] = e.version
}

// confirmed looks at a position that Postgres was told to forget. Every event below must be in Kafka, and the position stored.
// The server's lock is held.
func (o *oracle) confirmed(flush lsn) {
	if flush == 0 {
		return
	}
	if r := o.w.pg.rows["model"]; r == nil || flush > r.lsn() {
		o.w.fail("%s is confirmed and not stored", flush)
	}
	o.below(flush, "confirmed")
}

// saved looks at a checkpoint that was stored. The server's lock is held.
func (o *oracle) saved(before lsn, r row) {
	now := r.lsn()
	if now < before && o.since == "" {
		o.w.fail("%s is stored after %s", now, before)
	}
	o.below(now, "stored")
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stored = now; r["clean"] != true || o.w.plan.delivery != cdc.ExactlyOnce {
		return // at-least-once knows nothing of what an earlier session left in Kafka
	}
	for _, c := range o.order[o.safe:] {
		for _, change := range c.changes {
			if o.times[change.id] > 0 && strings.HasPrefix(change.key, o.since) {
				o.w.fail("%s is stored as a clean end, and event %v of transaction %s to %s is in Kafka", now, change.event, c.lsn, c.end)
			}
		}
	}
}

// below asserts that every event below a position is in Kafka.
func (o *oracle) below(at lsn, what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ; o.safe < len(o.order) && o.order[o.safe].end <= at; o.safe++ {
		for _, c := range o.order[o.safe].changes {
			if o.times[c.id] == 0 && strings.HasPrefix(c.key, o.since) {
				o.w.fail("%s is %s, and event %v of transaction %s to %s is not in Kafka", at, what, c.event, o.order[o.safe].lsn, o.order[o.safe].end)
			}
		}
	}
}

// missing counts the events that were committed and have not arrived, and gives the first. Those of the commits before
// o.whole have.
func (o *oracle) missing() (n int, first event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := o.whole; i < len(o.order); i++ {
		for _, change := range o.order[i].changes {
			if o.times[change.id] > 0 || !strings.HasPrefix(change.key, o.since) {
				continue
			}
			if n++; n == 1 {
				first = change.event
			}
		}
		if n == 0 {
			o.whole = i + 1
		}
	}
	return n, first
}

// accept forgets what was, as a person did: from here on only events with such keys count.
func (o *oracle) accept(prefix string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since = prefix
}
