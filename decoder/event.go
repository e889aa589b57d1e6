package decoder

import "time"

// Event is what an application asked to be told to the world: a row inserted into a published table, or a transactional
// logical message (pg_logical_emit_message) of one of the wanted prefixes.
type Event struct {
	Position   Position
	CommitTime time.Time // UTC, by the clock of the Postgres server, in whole microseconds

	// Relation is the table of the row, nil for a logical message. It is the same pointer until the server describes the
	// relation anew, and never changes behind it: what was worked out for a relation can be kept by its pointer.
	Relation *Relation
	// Values holds one value for each of Relation.Columns. The slice and the data are valid until the next Decode.
	Values []Value

	Prefix  string // of a logical message
	Content []byte // of a logical message; valid until the next Decode
}

// Value is one column of a row.
type Value struct {
	Format Format
	Data   []byte // points into the message; empty for Null and Unchanged
}

// Format says how the server sent a Value.
// (PostgreSQL manual, "Logical Replication Message Formats", TupleData.)
type Format byte

const (
	Null      Format = 'n'
	Unchanged Format = 'u' // a TOASTed value that an update left as it was: not sent. Never in an Event.
	Text      Format = 't' // as the type's output function writes it
	Binary    Format = 'b' // as the type's send function writes it; only with the option binary
)
