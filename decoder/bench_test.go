package decoder

import (
	"testing"

	"github.com/jackc/pglogrepl"
)

// outboxRow is an ordinary row: six columns, 300 bytes of jsonb.
func outboxRow() (described, row []byte) {
	payload := make([]byte, 300)
	for i := range payload {
		payload[i] = "0123456789abcdef"[i%16]
	}
	described = relation(16400, "outbox", "id", "aggregate_type", "aggregate_id", "event_type", "payload", "headers")
	row = insert(16400, "0197a1de-6a5c-7c11-a8b6-0c5f3a7b9d21", "order", "1234567", "OrderPlaced", string(payload), "NULL")
	return described, row
}

func TestTransactionDecodesWithoutAllocation(t *testing.T) {
	described, row := outboxRow()
	d := newDecoder("orders", "audit")
	decode(t, d, begin(0xA00), described, row, commit(0xA00))
	transaction := [][]byte{begin(0xA00), row, row, logicalMessage(true, "audit", `{"a": 1}`), row, commit(0xA00)}

	n := testing.AllocsPerRun(1000, func() {
		for _, m := range transaction {
			if _, err := d.Decode(0x1000, m); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations in a transaction of three rows and a message", n)
	}
}

func BenchmarkDecodeRow(b *testing.B) {
	described, row := outboxRow()
	d := newDecoder()
	for _, m := range [][]byte{begin(0xA00), described} {
		if _, err := d.Decode(0, m); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(row)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Decode(0, row); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPglogreplParse(b *testing.B) {
	_, row := outboxRow()
	b.SetBytes(int64(len(row)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pglogrepl.Parse(row); err != nil {
			b.Fatal(err)
		}
	}
}
