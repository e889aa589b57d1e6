package decoder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
)

func newDecoder(prefixes ...string) *Decoder {
	return &Decoder{TimelineOf: func(pglogrepl.LSN) uint32 { return 3 }, Prefixes: prefixes}
}

// decode decodes messages that are right.
func decode(t *testing.T, d *Decoder, messages ...[]byte) {
	t.Helper()
	for i, m := range messages {
		if _, err := d.Decode(0x1000, m); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

// decodeEvent decodes a message that must be an event.
func decodeEvent(t *testing.T, d *Decoder, m []byte) *Event {
	t.Helper()
	kind, err := d.Decode(0x1000, m)
	if err != nil || kind != KindEvent {
		t.Fatalf("kind %d, error %v, want an event", kind, err)
	}
	return &d.Event
}

func (v Value) String() string {
	switch v.Format {
	case Null:
		return "NULL"
	case Unchanged:
		return "UNCHANGED"
	}
	return string(v.Data)
}

func TestRowCarriesItsTransactionAndRelation(t *testing.T) {
	d := newDecoder()
	kind, err := d.Decode(0x1000, begin(0x2_0000_0A00))
	if err != nil || kind != KindBegin {
		t.Fatalf("kind %d, error %v, want a begin", kind, err)
	}
	if want := (Position{Timeline: 3, LSN: 0x2_0000_0A00}); d.Event.Position != want || !d.Event.CommitTime.Equal(noon) {
		t.Errorf("begin at %v, %v, want %v, %v", d.Event.Position, d.Event.CommitTime, want, noon)
	}
	decode(t, d, relation(16400, "outbox", "id", "payload", "note"))

	for ordinal, row := range [][]string{{"1", `{"a": 1}`, "NULL"}, {"2", "", "x"}} {
		e := decodeEvent(t, d, insert(16400, row...))
		if want := (Position{Timeline: 3, LSN: 0x2_0000_0A00, Ordinal: uint64(ordinal)}); e.Position != want {
			t.Errorf("position %v, want %v", e.Position, want)
		}
		if e.CommitTime != noon {
			t.Errorf("commit time %v, want %v", e.CommitTime, noon)
		}
		if e.Relation.String() != "public.outbox" {
			t.Errorf("relation %v", e.Relation)
		}
		if got := fmt.Sprint(e.Values); got != fmt.Sprint(row) {
			t.Errorf("values %v, want %v", got, row)
		}
	}
	kind, err = d.Decode(0x1000, commit(0x2_0000_0A00))
	if err != nil || kind != KindCommit || d.End != 0x2_0000_0A30 {
		t.Errorf("kind %d, end %v, error %v, want a commit that ends at 2/A30", kind, d.End, err)
	}
}

func TestRelationIsKeptUntilDescribedAnew(t *testing.T) {
	d := newDecoder()
	decode(t, d, begin(0xA00), relation(16400, "outbox", "id"))
	first := decodeEvent(t, d, insert(16400, "1")).Relation
	decode(t, d, commit(0xA00), begin(0xB00))
	if again := decodeEvent(t, d, insert(16400, "2")).Relation; again != first {
		t.Error("another pointer for the same relation")
	}
	decode(t, d, relation(16400, "outbox", "id", "added"))
	e := decodeEvent(t, d, insert(16400, "3", "x"))
	if e.Relation == first {
		t.Error("the same pointer for a relation that was described anew")
	}
	want := &Relation{ID: 16400, Namespace: "public", Name: "outbox", Columns: []Column{
		{Name: "id", Type: 25, Modifier: -1, Key: true}, {Name: "added", Type: 25, Modifier: -1},
	}}
	if !reflect.DeepEqual(e.Relation, want) {
		t.Errorf("relation %+v, want %+v", e.Relation, want)
	}
	if len(first.Columns) != 1 {
		t.Error("an earlier description was changed")
	}
}

// Whether a table is wanted is a setting, and a position must mean the same under any settings.
func TestRowsOfForeignTablesAreCountedButAreNoEvents(t *testing.T) {
	d := newDecoder()
	d.Describe = func(r *Relation) {
		r.Foreign = r.String() == "public.audit"
		r.Columns[0].NotNull = true
	}
	decode(t, d, begin(0xA00), relation(1, "audit", "id"), relation(2, "outbox", "id"))
	for range 2 {
		if kind, err := d.Decode(0x1000, insert(1, "1")); kind != KindOther || err != nil {
			t.Fatalf("kind %d, error %v, for a row of a foreign table", kind, err)
		}
	}
	e := decodeEvent(t, d, insert(2, "1"))
	if want := (Position{Timeline: 3, LSN: 0xA00, Ordinal: 2}); e.Position != want || !e.Relation.Columns[0].NotNull {
		t.Errorf("position %v, want %v; relation %+v", e.Position, want, e.Relation)
	}
	if want := (Ignored{Inserts: 2}); d.Ignored != want {
		t.Errorf("ignored %+v, want %+v", d.Ignored, want)
	}
}

func TestOrdinalCountsInsertsAndWantedMessagesOnly(t *testing.T) {
	d := newDecoder("orders", "audit")
	update := encode(&pglogrepl.UpdateMessage{RelationID: 1, OldTupleType: 'K', OldTuple: tuple("1", "NULL"), NewTuple: tuple("2", "UNCHANGED")})
	remove := encode(&pglogrepl.DeleteMessage{RelationID: 1, OldTupleType: 'O', OldTuple: tuple("1", "x")})
	truncate := encode(&pglogrepl.TruncateMessage{Option: 3, RelationIDs: []uint32{1, 2}})
	origin := encode(&pglogrepl.OriginMessage{CommitLSN: 0x77, Name: "elsewhere"})
	typ := encode(&pglogrepl.TypeMessage{DataType: 90000, Namespace: "public", Name: "mood"})

	var got []string
	for i, m := range [][]byte{
		begin(0xA00), origin, typ,
		relation(1, "outbox", "id", "payload"),
		relation(2, "other", "id"),
		insert(1, "1", "x"),
		update,
		insert(2, "7"),
		logicalMessage(true, "foreign", "not ours"),
		logicalMessage(true, "audit", "told"),
		logicalMessage(false, "orders", "not of the transaction"),
		remove, truncate,
		insert(1, "2", "y"),
		commit(0xA00),
		begin(0xB00),
		logicalMessage(true, "orders", ""),
		commit(0xB00),
	} {
		kind, err := d.Decode(0x1000, m)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if kind == KindEvent {
			e := &d.Event
			got = append(got, fmt.Sprintf("%v %v %v%s%s", e.Position, e.Relation != nil, e.Values, e.Prefix, e.Content))
		}
	}
	want := []string{
		"3:0/A00:0 true [1 x]",
		"3:0/A00:1 true [7]",
		"3:0/A00:2 false []audittold",
		"3:0/A00:3 true [2 y]",
		"3:0/B00:0 false []orders",
	}
	if !slices.Equal(got, want) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if want := (Ignored{Updates: 1, Deletes: 1, Truncates: 1, Messages: 1}); d.Ignored != want {
		t.Errorf("ignored %+v, want %+v", d.Ignored, want)
	}
}

func TestTimelineIsAskedOnceATransaction(t *testing.T) {
	var asked []pglogrepl.LSN
	d := &Decoder{TimelineOf: func(lsn pglogrepl.LSN) uint32 {
		asked = append(asked, lsn)
		return uint32(len(asked))
	}}
	decode(t, d, begin(0xA00), relation(1, "outbox", "id"), insert(1, "1"), insert(1, "2"), commit(0xA00), begin(0xB00))
	if e := decodeEvent(t, d, insert(1, "3")); e.Position.Timeline != 2 {
		t.Errorf("timeline %d, want that of the second transaction", e.Position.Timeline)
	}
	if want := []pglogrepl.LSN{0xA00, 0xB00}; !slices.Equal(asked, want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
}

func TestTableWithoutColumnsHasRows(t *testing.T) {
	d := newDecoder()
	decode(t, d, begin(0xA00), relation(1, "ticks"))
	if e := decodeEvent(t, d, insert(1)); len(e.Values) != 0 {
		t.Errorf("values %v", e.Values)
	}
}

func TestCommitTimeReachesPostgresLimits(t *testing.T) {
	for _, want := range []time.Time{
		time.Date(-4712, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC),
		time.Date(294276, 12, 31, 0, 0, 0, 0, time.UTC),
	} {
		b := begin(0xA00)
		seconds := want.Unix() - time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
		binary.BigEndian.PutUint64(b[9:], uint64(seconds*1_000_000+int64(want.Nanosecond()/1000)))
		d := newDecoder()
		decode(t, d, b)
		if d.Event.CommitTime != want {
			t.Errorf("commit time %v, want %v", d.Event.CommitTime, want)
		}
	}
}

func TestWrongMessageIsRefused(t *testing.T) {
	var (
		described = [][]byte{begin(0xA00), relation(1, "outbox", "id", "payload"), relation(2, "ticks")}
		keyOnly   = encode(&pglogrepl.UpdateMessage{RelationID: 1, OldTupleType: 'K', OldTuple: tuple("1", "2"), NewTuple: tuple("1", "2")})
		strayNew  = slices.Clone(keyOnly)
	)
	strayNew[6+2+2*6] = 'X' // the byte that says "the new row follows"

	tests := []struct {
		name   string
		before [][]byte
		msg    []byte
		reason string
	}{
		{"nothing", nil, nil, "empty"},
		{"type of protocol 2", nil, []byte("S"), "unknown type"},
		{"type unknown", described, []byte{0xFF, 1, 2}, "unknown type"},
		{"short begin", nil, begin(0xA00)[:20], "cut short"},
		{"short commit", described, commit(0xA00)[:25], "cut short"},
		{"long begin", nil, append(begin(0xA00), 0), "after the end"},
		{"begin twice", described, begin(0xB00), "within a transaction"},
		{"commit without begin", nil, commit(0xA00), "outside a transaction"},
		{"commit of another", described, commit(0xB00), "0/B00"},
		{"commit with flags", described, concat([]byte{'C', 1}, commit(0xA00)[2:]), "flags"},
		{"commit that ends where it starts", described, encode(&pglogrepl.CommitMessage{CommitLSN: 0xA00, TransactionEndLSN: 0xA00, CommitTime: noon}), "ends at 0/A00"},
		{"insert without begin", nil, insert(1, "1", "2"), "outside a transaction"},
		{"insert after commit", append(slices.Clone(described), commit(0xA00)), insert(1, "1", "2"), "outside a transaction"},
		{"update without begin", nil, keyOnly, "outside a transaction"},
		{"truncate without begin", nil, encode(&pglogrepl.TruncateMessage{RelationIDs: []uint32{1}}), "outside a transaction"},
		{"logical message without begin", nil, logicalMessage(true, "orders", "x"), "outside a transaction"},
		{"insert without relation", described, insert(9, "1", "2"), "relation 9 has not been described"},
		{"insert with a column less", described, insert(1, "1"), "row of 1 columns, while public.outbox was described with 2"},
		{"insert with a column more", described, insert(1, "1", "2", "3"), "row of 3 columns"},
		{"insert with an unchanged value", described, insert(1, "1", "UNCHANGED"), "unchanged in an insert"},
		{"insert of an old row", described, concat([]byte("I\x00\x00\x00\x01O"), insert(1, "1", "2")[6:]), "no new row"},
		{"insert with an unknown format", described, []byte("I\x00\x00\x00\x01N\x00\x02nx"), `format 'x'`},
		{"insert with a length of 4 GiB", described, []byte("I\x00\x00\x00\x01N\x00\x02nt\xff\xff\xff\xff123"), "cut short"},
		{"insert with a length of 2 GiB", described, []byte("I\x00\x00\x00\x01N\x00\x02nt\x80\x00\x00\x00123"), "cut short"},
		{"insert that goes on", described, append(insert(1, "1", "2"), 'n'), "after the end"},
		{"insert without columns that goes on", described, append(insert(2), 'n'), "after the end"},
		{"update without new row", described, strayNew, "no new row"},
		{"update that ends after the old row", described, keyOnly[:6+2+2*6], "cut short"},
		{"update that goes on", described, append(slices.Clone(keyOnly), 0), "after the end"},
		{"delete of a new row", described, concat([]byte("D"), insert(1, "1", "2")[1:]), "no old row"},
		{"truncate of nothing", described, []byte("T\x00\x00\x00\x00\x00"), "no table"},
		{"truncate of 2^30+1 tables", described, []byte("T\x40\x00\x00\x01\x00\x00\x00\x00\x01"), "cut short"},
		{"truncate that goes on", described, []byte("T\x00\x00\x00\x01\x00\x00\x00\x00\x01\x00"), "after the end"},
		{"relation with columns that are not there", nil, []byte("R\x00\x00\x00\x01\x00\x00d\xff\xff"), "cut short"},
		{"relation with an endless name", nil, []byte("R\x00\x00\x00\x01public"), "cut short"},
		{"relation that goes on", nil, append(relation(1, "outbox", "id"), 1), "after the end"},
		{"logical message with flags", described, concat([]byte("M\x02"), logicalMessage(true, "orders", "x")[2:]), "flags"},
		{"logical message with an endless prefix", described, []byte("M\x01\x00\x00\x00\x00\x00\x00\x00\x00orders"), "cut short"},
		{"logical message with a length of 4 GiB", described, []byte("M\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff1"), "cut short"},
		{"origin without name", described, []byte("O\x00\x00\x00\x00\x00\x00\x00\x00"), "cut short"},
		{"type that goes on", described, []byte("Y\x00\x00\x00\x01\x00\x00\x00"), "after the end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDecoder("orders")
			decode(t, d, tt.before...)
			kind, err := d.Decode(0x1234, tt.msg)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("kind %d, error %v, want an *Error", kind, err)
			}
			if len(tt.msg) > 0 && e.Type != tt.msg[0] || e.LSN != 0x1234 || !strings.Contains(e.Reason, tt.reason) {
				t.Errorf("error %+v, want type, LSN 0/1234 and %q", e, tt.reason)
			}
			if kind != KindOther {
				t.Errorf("kind %d beside an error", kind)
			}
			if d.End > 0xA30 || d.Ignored != (Ignored{}) {
				t.Errorf("a refused message counted: end %v, ignored %+v", d.End, d.Ignored)
			}
		})
	}
}

func TestErrorNamesMessageAndPlace(t *testing.T) {
	d := newDecoder()
	decode(t, d, begin(0x1_0000_0A00))
	_, err := d.Decode(0x1_0000_0900, []byte("Z"))
	want := "pgoutput message 'Z' at 1/900 in the transaction that commits at 1/A00: unknown type"
	if err == nil || err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// A length in a message must not become memory before the bytes are there.
func TestLengthsDoNotAllocate(t *testing.T) {
	msg := []byte("R\x00\x00\x00\x01\x00\x00d\xff\xff0123456789")
	d := newDecoder()
	const runs = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		if _, err := d.Decode(0, msg); err == nil {
			t.Fatal("a relation without its columns was accepted")
		}
	}
	runtime.ReadMemStats(&after)
	if allocated := (after.TotalAlloc - before.TotalAlloc) / runs; allocated > 10_000 {
		t.Errorf("%d bytes allocated for a message of %d", allocated, len(msg))
	}
}
