package decoder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
)

// reference is the decoder that pglogrepl.Parse makes possible: it parses, and then says from the parsed message alone what
// the Decoder has to make of it. It follows one stream, as the Decoder does.
//
// Where ours is stricter than Parse:
//   - The message must be nothing but what was parsed: encoded again it gives the same bytes. So ours refuses bytes after the
//     end, flags that the protocol does not have, a byte other than N before an update's new row, an endless prefix of a
//     logical message. Parse passes all of them over.
//   - A column's format must be one that the protocol has. Parse reads any other as a value without data.
//   - The message must fit the stream: refuse lists how.
//
// Where ours accepts what Parse refuses: a row of a table without columns, which is a byte shorter than Parse allows.
type reference struct {
	open      bool
	position  Position
	relations map[uint32]*pglogrepl.RelationMessage
	ignored   Ignored
}

// read gives what the message says, or an error if the Decoder must refuse it.
func (r *reference) read(msg []byte) (pglogrepl.Message, error) {
	m, err := parse(msg)
	if err != nil {
		return nil, err
	}
	switch m.(type) {
	case *pglogrepl.BeginMessage:
		// Compared by length: far from the present, pglogrepl's time overflows and cannot be encoded again.
		if len(msg) != 21 {
			return nil, errors.New("length")
		}
	case *pglogrepl.CommitMessage:
		if len(msg) != 26 {
			return nil, errors.New("length")
		}
	default:
		if !bytes.Equal(encode(m), msg) {
			return nil, errors.New("says more than was parsed")
		}
	}
	return m, r.refuse(m)
}

// refuse says why a message that is right by itself is wrong at this point of the stream.
func (r *reference) refuse(m pglogrepl.Message) error {
	switch m := m.(type) {
	case *pglogrepl.BeginMessage:
		if r.open {
			return errors.New("second begin")
		}
	case *pglogrepl.CommitMessage:
		if !r.open || m.CommitLSN != r.position.LSN || m.TransactionEndLSN <= m.CommitLSN || m.Flags != 0 {
			return errors.New("commit")
		}
	case *pglogrepl.InsertMessage:
		return r.refuseRow(m.RelationID, "ntb", m.Tuple)
	case *pglogrepl.UpdateMessage:
		if m.OldTuple != nil {
			return r.refuseRow(m.RelationID, "ntbu", m.OldTuple, m.NewTuple)
		}
		return r.refuseRow(m.RelationID, "ntbu", m.NewTuple)
	case *pglogrepl.DeleteMessage:
		return r.refuseRow(m.RelationID, "ntbu", m.OldTuple)
	case *pglogrepl.TruncateMessage:
		if !r.open {
			return errors.New("outside")
		}
	case *pglogrepl.LogicalDecodingMessage:
		if m.Transactional && !r.open {
			return errors.New("outside")
		}
	}
	return nil
}

func (r *reference) refuseRow(id uint32, formats string, tuples ...*pglogrepl.TupleData) error {
	relation := r.relations[id]
	if !r.open || relation == nil {
		return errors.New("outside, or without relation")
	}
	for _, t := range tuples {
		if len(t.Columns) != len(relation.Columns) {
			return errors.New("column count")
		}
		for _, c := range t.Columns {
			if strings.IndexByte(formats, c.DataType) < 0 {
				return errors.New("format")
			}
		}
	}
	return nil
}

// check follows the stream by m, and compares d, which has just decoded it, with what m means.
func (r *reference) check(t *testing.T, m pglogrepl.Message, d *Decoder, kind Kind) {
	t.Helper()
	want := KindOther
	switch m := m.(type) {
	case *pglogrepl.BeginMessage:
		want = KindBegin
		r.open = true
		r.position = Position{Timeline: timelineOf(m.FinalLSN), LSN: m.FinalLSN}
		r.checkPosition(t, d)
		if y := d.Event.CommitTime.Year(); y > 1700 && y < 2200 && !d.Event.CommitTime.Equal(m.CommitTime) {
			t.Fatalf("commit time %v, want %v", d.Event.CommitTime, m.CommitTime)
		}
	case *pglogrepl.CommitMessage:
		want = KindCommit
		r.open = false
		if d.End != m.TransactionEndLSN {
			t.Fatalf("end %v, want %v", d.End, m.TransactionEndLSN)
		}
	case *pglogrepl.RelationMessage:
		r.relations[m.RelationID] = m
		checkRelation(t, d.relations[m.RelationID], m)
	case *pglogrepl.InsertMessage:
		want = KindEvent
		r.checkPosition(t, d)
		r.position.Ordinal++
		checkRelation(t, d.Event.Relation, r.relations[m.RelationID])
		checkValues(t, d.Event.Values, m.Tuple)
		if d.Event.Prefix != "" || d.Event.Content != nil {
			t.Fatalf("a row with a prefix %q or content %q", d.Event.Prefix, d.Event.Content)
		}
	case *pglogrepl.UpdateMessage:
		r.ignored.Updates++
	case *pglogrepl.DeleteMessage:
		r.ignored.Deletes++
	case *pglogrepl.TruncateMessage:
		r.ignored.Truncates++
	case *pglogrepl.LogicalDecodingMessage:
		switch {
		case m.Prefix != wantedPrefix:
		case !m.Transactional:
			r.ignored.Messages++
		default:
			want = KindEvent
			r.checkPosition(t, d)
			r.position.Ordinal++
			if e := &d.Event; e.Relation != nil || len(e.Values) != 0 || e.Prefix != m.Prefix || !bytes.Equal(e.Content, m.Content) {
				t.Fatalf("event %+v, want that of %+v", e, m)
			}
		}
	}
	if kind != want {
		t.Fatalf("kind %d, want %d", kind, want)
	}
	if d.Ignored != r.ignored {
		t.Fatalf("ignored %+v, want %+v", d.Ignored, r.ignored)
	}
}

func (r *reference) checkPosition(t *testing.T, d *Decoder) {
	t.Helper()
	if d.Event.Position != r.position {
		t.Fatalf("position %v, want %v", d.Event.Position, r.position)
	}
}

func checkRelation(t *testing.T, got *Relation, want *pglogrepl.RelationMessage) {
	t.Helper()
	if got == nil || got.ID != want.RelationID || got.Namespace != want.Namespace || got.Name != want.RelationName || len(got.Columns) != len(want.Columns) {
		t.Fatalf("relation %+v, want %+v", got, want)
	}
	for i, c := range want.Columns {
		if got.Columns[i] != (Column{Name: c.Name, Type: c.DataType, Modifier: c.TypeModifier, Key: c.Flags&1 != 0}) {
			t.Fatalf("column %+v, want %+v", got.Columns[i], c)
		}
	}
}

func checkValues(t *testing.T, got []Value, want *pglogrepl.TupleData) {
	t.Helper()
	if len(got) != len(want.Columns) {
		t.Fatalf("%d values, want %d", len(got), len(want.Columns))
	}
	for i, c := range want.Columns {
		if byte(got[i].Format) != c.DataType || !bytes.Equal(got[i].Data, c.Data) {
			t.Fatalf("value %d is %c %q, want %c %q", i, got[i].Format, got[i].Data, c.DataType, c.Data)
		}
	}
}

// parse is pglogrepl.Parse, made fit to compare with: its panics, on messages that end early, are errors.
func parse(msg []byte) (m pglogrepl.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if !lengthsFit(msg) {
		return nil, errors.New("a length beyond the message")
	}
	if len(msg) == 8 && msg[0] == 'I' && bytes.HasSuffix(msg, []byte("N\x00\x00")) {
		return &pglogrepl.InsertMessage{RelationID: binary.BigEndian.Uint32(msg[1:]), Tuple: &pglogrepl.TupleData{}}, nil
	}
	return pglogrepl.Parse(msg)
}

// lengthsFit keeps Parse from what it does before it panics: to allocate what a length says, up to 16 GiB.
func lengthsFit(msg []byte) bool {
	if len(msg) == 0 {
		return false
	}
	switch msg[0] {
	case 'T':
		return len(msg) >= 6 && 4*uint64(binary.BigEndian.Uint32(msg[1:])) <= uint64(len(msg))
	case 'I', 'U', 'D':
	default:
		return true
	}
	b := msg[min(5, len(msg)):]
	for len(b) >= 3 { // a tuple: kind, column count, columns
		n := int(binary.BigEndian.Uint16(b[1:]))
		b = b[3:]
		for range n {
			if len(b) == 0 {
				return false
			}
			format := b[0]
			b = b[1:]
			if format != 't' && format != 'b' {
				continue
			}
			if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
				return false
			}
			b = b[4+binary.BigEndian.Uint32(b):]
		}
		if msg[0] != 'U' {
			break // only an update holds a second tuple
		}
	}
	return true
}
