package decoder

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
)

// Position names an event. It is exact and unique in the history of a database cluster, and the same however often, and on
// whichever side of a failover, the event is decoded.
type Position struct {
	Timeline uint32        // the one that owns LSN, which may be older than the server's present one
	LSN      pglogrepl.LSN // start of the transaction's commit record. Not to be confirmed: see Decoder.End
	Ordinal  uint64        // index of the event within its transaction, from 0
}

// Append appends the position as String gives it.
func (p Position) Append(b []byte) []byte {
	b = strconv.AppendUint(b, uint64(p.Timeline), 10)
	b = append(b, ':')
	b = appendHex(b, uint32(p.LSN>>32))
	b = append(b, '/')
	b = appendHex(b, uint32(p.LSN))
	b = append(b, ':')
	return strconv.AppendUint(b, p.Ordinal, 10)
}

// String gives timeline:LSN:ordinal, for example 1:0/1A2B3C8:0, with the LSN as PostgreSQL 14 to 18 print it. The form is
// written into Kafka and read back after a restart, so it stays whatever later versions print.
func (p Position) String() string {
	return string(p.Append(nil))
}

// appendHex appends v in upper case, which strconv cannot do, and without the allocation that fmt makes.
func appendHex(b []byte, v uint32) []byte {
	const digits = "0123456789ABCDEF"
	shift := 28
	for shift > 0 && v>>shift == 0 {
		shift -= 4
	}
	for ; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&0xF])
	}
	return b
}

// ParsePosition reads what String wrote, and nothing else: each position has one spelling, so that equal positions are
// equal strings.
func ParsePosition(s string) (Position, error) {
	timeline, rest, _ := strings.Cut(s, ":")
	lsn, ordinal, _ := strings.Cut(rest, ":")
	high, low, _ := strings.Cut(lsn, "/")

	// What cannot be parsed becomes a number that is not spelled like it.
	t, _ := strconv.ParseUint(timeline, 10, 32)
	h, _ := strconv.ParseUint(high, 16, 32)
	l, _ := strconv.ParseUint(low, 16, 32)
	o, _ := strconv.ParseUint(ordinal, 10, 64)

	p := Position{Timeline: uint32(t), LSN: pglogrepl.LSN(h<<32 | l), Ordinal: o}
	if p.String() != s {
		return Position{}, fmt.Errorf("position %.80q is not of the form timeline:LSN:ordinal, such as 1:0/1A2B3C8:0", s)
	}
	return p, nil
}
