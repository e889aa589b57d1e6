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

// Error says that the stream is not what pgoutput sends. What follows it cannot be trusted: the session has to end.
type Error struct {
	Type   byte          // of the message; 0 if it was empty
	LSN    pglogrepl.LSN // the message's WAL start, which Postgres leaves at 0/0 for Relation and Type
	Commit pglogrepl.LSN // of the transaction that it came in, 0 outside one
	Reason string
}

func (e *Error) Error() string {
	s := fmt.Sprintf("pgoutput message %q at %v", e.Type, e.LSN)
	if e.Commit != 0 {
		s += fmt.Sprintf(" in the transaction that commits at %v", e.Commit)
	}
	return s + ": " + e.Reason
}

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
		c.refuse(fmt.Sprintf("ends at %v, before its own commit", end))
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
	d.relations[r.ID] = r
}

func (d *Decoder) insert(c *cursor) Kind {
	r := d.rowRelation(c)
	if tuple := c.uint8(); tuple != 'N' {
		c.refuse("no new row in an insert")
	}
	d.values(c, r)
	if !c.done() {
		return KindOther
	}
	for i := range d.Event.Values {
		if d.Event.Values[i].Format == Unchanged {
			c.refuse(fmt.Sprintf("column %d of %v is unchanged in an insert", i, r))
			return KindOther
		}
	}
	d.take()
	d.Event.Relation = r
	d.Event.Prefix, d.Event.Content = "", nil
	return KindEvent
}

func (d *Decoder) update(c *cursor) {
	r := d.rowRelation(c)
	tuple := c.uint8()
	if tuple == 'K' || tuple == 'O' { // the old row's key, or all of it
		d.values(c, r)
		tuple = c.uint8()
	}
	if tuple != 'N' {
		c.refuse("no new row in an update")
	}
	d.values(c, r)
	if c.done() {
		d.Ignored.Updates++
	}
}

func (d *Decoder) delete(c *cursor) {
	r := d.rowRelation(c)
	if tuple := c.uint8(); tuple != 'K' && tuple != 'O' {
		c.refuse("no old row in a delete")
	}
	d.values(c, r)
	if c.done() {
		d.Ignored.Deletes++
	}
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
		d.take()
		d.Event.Relation, d.Event.Values = nil, d.Event.Values[:0]
		d.Event.Prefix, d.Event.Content = p, content
		return KindEvent
	}
	return KindOther
}

// take gives the event the next position.
func (d *Decoder) take() {
	d.Event.Position, d.Event.CommitTime = d.next, d.commitTime
	d.next.Ordinal++
}

func (d *Decoder) inTransaction(c *cursor) {
	if !d.open {
		c.refuse("comes outside a transaction")
	}
}

// rowRelation reads which relation a row is of. It gives nil when something is wrong.
func (d *Decoder) rowRelation(c *cursor) *Relation {
	id := c.uint32()
	d.inTransaction(c)
	if c.wrong != "" {
		return nil
	}
	r := d.relations[id]
	if r == nil {
		c.refuse(fmt.Sprintf("relation %d has not been described", id))
	}
	return r
}

// values reads a row of r into Event.Values.
func (d *Decoder) values(c *cursor, r *Relation) {
	n := int(c.uint16())
	if c.wrong != "" {
		return
	}
	if n != len(r.Columns) {
		c.refuse(fmt.Sprintf("row of %d columns, while %v was described with %d", n, r, len(r.Columns)))
		return
	}
	values := d.Event.Values[:0]
	for range n {
		v := Value{Format: Format(c.uint8())}
		switch v.Format {
		case Text, Binary:
			v.Data = c.take(c.uint32())
		case Null, Unchanged:
		default:
			if c.wrong == "" {
				c.refuse(fmt.Sprintf("column %d of %v is of unknown format %q", len(values), r, byte(v.Format)))
			}
		}
		if c.wrong != "" {
			return
		}
		values = append(values, v)
	}
	d.Event.Values = values
}
