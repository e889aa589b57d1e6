package decoder

import (
	"fmt"

	"github.com/jackc/pglogrepl"
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
