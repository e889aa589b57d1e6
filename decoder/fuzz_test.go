package decoder

import (
	"bytes"
	"errors"
	"maps"
	"math"
	"testing"

	"github.com/jackc/pglogrepl"
)

// timelineOf makes timelines that depend on the LSN.
func timelineOf(lsn pglogrepl.LSN) uint32 { return uint32(lsn>>32) ^ 5 }

// agree decodes one message with both, and reports whether it was accepted.
func agree(t *testing.T, d *Decoder, r *reference, f frame) bool {
	t.Helper()
	untouched := bytes.Clone(f.msg)
	m, refused := r.read(f.msg)
	kind, err := d.Decode(f.walStart, f.msg)
	if !bytes.Equal(f.msg, untouched) {
		t.Fatalf("the message was written to: %q, was %q", f.msg, untouched)
	}
	if refused != nil || err != nil {
		if refused == nil || err == nil {
			t.Fatalf("%q: ours %v, reference %v", f.msg, err, refused)
		}
		var e *Error
		if !errors.As(err, &e) || e.LSN != f.walStart || len(f.msg) > 0 && e.Type != f.msg[0] || kind != KindOther {
			t.Fatalf("kind %d with error %#v", kind, err)
		}
		return false
	}
	r.check(t, m, d, kind)
	return true
}

func newPair() (*Decoder, *reference) {
	return &Decoder{TimelineOf: timelineOf, Prefixes: []string{wantedPrefix}}, &reference{relations: make(map[uint32]*pglogrepl.RelationMessage)}
}

func TestCapturedStreamsReadAsPglogreplReadsThem(t *testing.T) {
	for _, path := range streams(t) {
		d, r := newPair()
		for i, f := range readStream(t, path) {
			if !agree(t, d, r, f) {
				t.Errorf("%s: frame %d refused: %q", path, i, f.msg)
			}
		}
	}
}

// Every message of the streams is damaged in every way that one cut, one bit or one byte more can do. Where the damage leaves
// a message that Postgres could have sent, both must read the same; where not, ours must refuse it.
func TestDamageIsRefusedOrReadAlike(t *testing.T) {
	for _, path := range streams(t) {
		d, r := newPair()
		refused := 0
		for _, f := range readStream(t, path) {
			for msg := range damaged(f.msg) {
				d, r := *d, *r // what the damage does to them must not stay
				d.relations, r.relations = maps.Clone(d.relations), maps.Clone(r.relations)
				d.Event.Values = nil
				if d.relations == nil {
					d.relations = make(map[uint32]*Relation)
				}
				if !agree(t, &d, &r, frame{f.walStart, msg}) {
					refused++
				}
			}
			agree(t, d, r, f)
		}
		if refused == 0 {
			t.Errorf("%s: no damage was refused", path)
		}
	}
}

// damaged gives the variants of a message. Long values are damaged in their first 512 bytes only: one byte of text is like another.
func damaged(msg []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		reach := min(len(msg), 512)
		for n := range reach {
			if !yield(msg[:n:n]) {
				return
			}
		}
		if !yield(append(bytes.Clone(msg), 0)) {
			return
		}
		for bit := range 8 * reach {
			b := bytes.Clone(msg)
			b[bit/8] ^= 1 << (bit % 8)
			if !yield(b) {
				return
			}
		}
	}
}

func FuzzDecoderAgreesWithPglogrepl(f *testing.F) {
	for _, path := range streams(f) {
		for _, stream := range excerpts(readStream(f, path)) {
			f.Add(stream)
		}
	}
	var extremes []byte
	for _, msg := range [][]byte{
		begin(math.MaxUint64), relation(1, "outbox", "id", "payload"), insert(1, "1", "NULL"), relation(2, "ticks"), insert(2),
		[]byte("I\x00\x00\x00\x01N\x00\x02nt\xff\xff\xff\xff"),
	} {
		extremes = appendFrame(extremes, frame{msg: msg})
	}
	f.Add(extremes)

	f.Fuzz(func(t *testing.T, stream []byte) {
		d, r := newPair()
		for _, f := range cutFrames(stream) {
			if !agree(t, d, r, f) {
				break // the session would end here
			}
		}
	})
}

// excerpts gives a short stream for each transaction: the relations described so far, then the transaction.
func excerpts(frames []frame) [][]byte {
	var (
		streams     [][]byte
		relations   []byte
		transaction []byte
	)
	for _, f := range frames {
		transaction = appendFrame(transaction, f)
		switch f.msg[0] {
		case 'R':
			relations = appendFrame(relations, f)
		case 'C':
			streams = append(streams, transaction)
			transaction = bytes.Clone(relations)
		}
	}
	return streams
}
