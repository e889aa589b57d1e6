package sink

import (
	"strings"
	"time"

	"github.com/outrider-relay/outrider/decoder"
)

// PostgreSQL type OIDs (pg_type.dat) of the tests' columns.
const (
	oidInt8        = 20
	oidInt4        = 23
	oidText        = 25
	oidTimestamptz = 1184
	oidUUID        = 2950
	oidJSONB       = 3802
)

// table describes one; columns are name, OID, name, OID, ...
func table(name string, columns ...any) *decoder.Relation {
	rel := &decoder.Relation{ID: 16384, Namespace: "public", Name: name}
	for i := 0; i < len(columns); i += 2 {
		rel.Columns = append(rel.Columns, decoder.Column{Name: columns[i].(string), Type: uint32(columns[i+1].(int)), Modifier: -1})
	}
	return rel
}

// outbox is the table of the migrations.
var outbox = table("outbox", "id", oidUUID, "aggregate_type", oidText, "aggregate_id", oidText, "event_type", oidText,
	"payload", oidJSONB, "headers", oidJSONB, "created_at", oidTimestamptz)

var (
	commitTime    = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	eventPosition = decoder.Position{Timeline: 1, LSN: 0x16B3748, Ordinal: 7}
)

// event makes one of a row; a value is text, and those that are not given are NULL.
func event(rel *decoder.Relation, values ...string) *decoder.Event {
	e := &decoder.Event{Position: eventPosition, CommitTime: commitTime, Relation: rel, Values: make([]decoder.Value, len(rel.Columns))}
	for i := range e.Values {
		e.Values[i] = decoder.Value{Format: decoder.Null}
		if i < len(values) {
			e.Values[i] = decoder.Value{Format: decoder.Text, Data: []byte(values[i])}
		}
	}
	return e
}

// message is a logical message as an event.
func message(content string) *decoder.Event {
	return &decoder.Event{Position: eventPosition, CommitTime: commitTime, Prefix: "orders", Content: []byte(content)}
}

// plainRow is a row of 300 bytes.
func plainRow() *decoder.Event {
	return event(outbox, "0194e9c3-7cb1-7aaa-8000-0123456789ab", "order", "order-4711", "OrderPlaced",
		`{"order": 4711, "note": "`+strings.Repeat("x", 190)+`"}`, `{}`, "2026-03-01 12:00:00.123456+00")
}
