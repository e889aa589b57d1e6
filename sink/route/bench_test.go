package route

import (
	"strings"
	"testing"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/record"
)

// plainRow is a row of 300 bytes.
func plainRow() *decoder.Event {
	return event(ownTable, "0194e9c3-7cb1-7aaa-8000-0123456789ab", "order", "order-4711", "OrderPlaced",
		`{"order": 4711, "note": "`+strings.Repeat("x", 190)+`"}`, `{}`, "2026-03-01 12:00:00.123456+00")
}

func TestPlainRowsAllocateNothing(t *testing.T) {
	r := newTestRouter(t, Settings{})
	e := plainRow()
	b := record.Builder{}
	b.Reset(make([]byte, 0, 2<<20))
	allocs := testing.AllocsPerRun(1000, func() {
		routed, err := r.Route(e, commitTime)
		if err != nil {
			t.Fatal(err)
		}
		b.Append(&routed.Record)
	})
	if allocs != 0 {
		t.Errorf("%v allocations to route a row and to put it into a batch", allocs)
	}
}

// What has to be written anew is written into memory that is there.
func TestFormatsAllocateNothing(t *testing.T) {
	for name, settings := range map[string]Settings{
		"json":             {Value: JSON, KeyFormat: JSON, HeaderFormat: JSON},
		"json with schema": {Value: JSONWithSchema, KeyFormat: JSONWithSchema, HeaderFormat: JSONWithSchema},
		"envelope":         {Envelope: []string{"event_type", "created_at"}},
		"cloud event":      {Value: CloudEventsBinary},
		"debezium":         {Debezium: true, Value: JSONWithSchema, Headers: []string{"event_type"}, Envelope: []string{"event_type"}},
		"own columns":      {Columns: map[string]string{"public.outbox.payload": "headers"}},
	} {
		r := newTestRouter(t, settings)
		e := plainRow()
		e.Relation = ownTable
		if allocs := testing.AllocsPerRun(100, func() {
			if _, err := r.Route(e, commitTime); err != nil {
				t.Fatal(err)
			}
		}); allocs != 0 {
			t.Errorf("%s: %v allocations a row", name, allocs)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	headers := plainRow()
	headers.Values[5].Data = []byte(`{"tenant": "acme", "note": "a \"quoted\" word", "n": 12}`)
	for name, e := range map[string]*decoder.Event{"plain": plainRow(), "headers": headers} {
		b.Run(name, func(b *testing.B) {
			r := newTestRouter(b, Settings{})
			n := 0
			for _, v := range e.Values {
				n += len(v.Data)
			}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Route(e, commitTime); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
