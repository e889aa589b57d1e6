// Package decoder turns pgoutput messages into outbox events.
//
// It reads protocol version 1 without streaming: transactions arrive whole, one after the other, in commit order, and what
// was rolled back never arrives. (PostgreSQL manual, "Logical Replication Message Formats".) It is pure: no I/O, no clock, no
// log. A row is read where it lies, without an allocation.
package decoder

import (
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
)

// Decoder decodes the stream of one session, message by message. A new session needs a new one: Postgres describes the
// relations anew.
type Decoder struct {
	// TimelineOf gives the timeline that owns a commit LSN. It is asked once a transaction, and must be set.
	TimelineOf func(pglogrepl.LSN) uint32
	// Prefixes of the transactional logical messages that are events.
	Prefixes []string
	// Describe, where it is not nil, completes a relation by what the stream does not tell, before its first row: Foreign, and
	// NotNull of its columns.
	Describe func(*Relation)

	// Event is the last event, valid after KindEvent until the next Decode. After KindBegin its Position and CommitTime are
	// those of the transaction's first event.
	Event Event
	// End is the LSN after the commit record of the last transaction, valid after KindCommit. It alone may be confirmed or
	// stored as a checkpoint: from a commit LSN, Postgres sends that transaction again.
	End pglogrepl.LSN
	// Ignored counts what passed and is no event.
	Ignored Ignored

	open       bool     // between BEGIN and COMMIT
	next       Position // of the next event of the open transaction
	commitTime time.Time
	relations  map[uint32]*Relation
}

// Ignored counts what an outbox should not see: applications insert into it, and no more.
type Ignored struct {
	Inserts   uint64 // rows of foreign relations
	Updates   uint64 // rows
	Deletes   uint64 // rows
	Truncates uint64 // messages, each of one table or more
	Messages  uint64 // logical messages of our prefixes that are not transactional: they have no commit, hence no position
}

// Kind says what a message was to the caller.
type Kind uint8

const (
	KindOther  Kind = iota // nothing for the caller
	KindBegin              // a transaction begins
	KindEvent              // see Decoder.Event
	KindCommit             // the transaction is complete; see Decoder.End
)

// Decode reads one message, the payload of an XLogData frame that carries walStart. Its errors are of type *Error.
func (d *Decoder) Decode(walStart pglogrepl.LSN, msg []byte) (Kind, error) {
	if len(msg) == 0 {
		return KindOther, d.fail(0, walStart, "message is empty")
	}
	c := cursor{rest: msg[1:]}
	kind := d.message(msg[0], &c)
	if c.wrong != "" {
		return KindOther, d.fail(msg[0], walStart, c.wrong)
	}
	return kind, nil
}

func (d *Decoder) fail(typ byte, walStart pglogrepl.LSN, reason string) *Error {
	e := &Error{Type: typ, LSN: walStart, Reason: reason}
	if d.open {
		e.Commit = d.next.LSN
	}
	return e
}

func (d *Decoder) message(typ byte, c *cursor) Kind {
	switch typ {
	case 'B':
		return d.begin(c)
	case 'R':
		d.relation(c)
	case 'I':
		return d.insert(c)
	case 'U':
		d.update(c)
	case 'D':
		d.delete(c)
	case 'T':
		d.truncate(c)
	case 'M':
		return d.logicalMessage(c)
	case 'O':
		c.uint64() // commit LSN on the origin
		c.cstring()
		c.done()
	case 'Y':
		c.uint32()  // OID
		c.cstring() // schema
		c.cstring() // name
		c.done()
	case 'C':
		return d.commit(c)
	default:
		c.refuse("unknown type")
	}
	return KindOther
}

func (d *Decoder) begin(c *cursor) Kind {
	lsn := pglogrepl.LSN(c.uint64())
	micros := int64(c.uint64())
	c.uint32() // transaction id
	if d.open {
		c.refuse("begins within a transaction")
	}
	if !c.done() {
		return KindOther
	}
	d.open = true
	d.next = Position{Timeline: d.TimelineOf(lsn), LSN: lsn}
	d.commitTime = time.Unix(postgresEpoch+micros/1e6, micros%1e6*1e3).UTC()
	d.Event = Event{Position: d.next, CommitTime: d.commitTime, Values: d.Event.Values[:0]}
	return KindBegin
}

// postgresEpoch is 2000-01-01 00:00 UTC, from where Postgres counts microseconds, in seconds since 1970.
const postgresEpoch = 946_684_800

func (d *Decoder) commit(c *cursor) Kind {
	flags := c.uint8()
	lsn := pglogrepl.LSN(c.uint64())
	end := pglogrepl.LSN(c.uint64())
	c.uint64() // commit time, known since BEGIN
	if !c.done() {
		return KindOther
	}
	switch {
	case !d.open:
		c.refuse("commits outside a transaction")
	case flags != 0:
		c.refuse(fmt.Sprintf("unknown flags %#x", flags))
	case lsn != d.next.LSN:
		c.refuse(fmt.Sprintf("commits at %v", lsn))
	case end <= lsn:
		// It will be confirmed, and what a wrong end confirms is lost or sent twice.
		c.refuse(fmt.Sprintf("ends at %v, not after its own commit", end))
	default:
		d.open = false
		d.End = end
		return KindCommit
	}
	return KindOther
}

func (d *Decoder) relation(c *cursor) {
	r := readRelation(c)
	if !c.done() {
		return
	}
	if d.relations == nil {
		d.relations = make(map[uint32]*Relation)
	}
	if d.Describe != nil {
		d.Describe(r)
	}
	d.relations[r.ID] = r
}

func (d *Decoder) truncate(c *cursor) {
	n := c.uint32()
	c.uint8() // CASCADE, RESTART IDENTITY
	if n == 0 {
		c.refuse("no table in a truncate")
	}
	if uint64(n)*4 > uint64(len(c.rest)) {
		c.refuse(short)
	}
	c.take(n * 4)
	d.inTransaction(c)
	if c.done() {
		d.Ignored.Truncates++
	}
}

func (d *Decoder) logicalMessage(c *cursor) Kind {
	flags := c.uint8()
	c.uint64() // LSN of the message
	prefix := c.cstring()
	content := c.take(c.uint32())
	if flags > 1 {
		c.refuse(fmt.Sprintf("unknown flags %#x", flags))
	}
	transactional := flags == 1
	if transactional {
		d.inTransaction(c)
	}
	if !c.done() {
		return KindOther
	}
	for _, p := range d.Prefixes {
		if p != string(prefix) {
			continue
		}
		if !transactional {
			d.Ignored.Messages++
			return KindOther
		}
		d.place()
		d.Event.Relation, d.Event.Values = nil, d.Event.Values[:0]
		d.Event.Prefix, d.Event.Content = p, content
		return KindEvent
	}
	return KindOther
}

// place gives the event its place: the next position of the transaction.
func (d *Decoder) place() {
	d.Event.Position, d.Event.CommitTime = d.next, d.commitTime
	d.next.Ordinal++
}

func (d *Decoder) inTransaction(c *cursor) {
	if !d.open {
		c.refuse("comes outside a transaction")
	}
}
