package sink

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/test/vectors"
)

var oidOf = map[string]uint32{
	"uuid": oidUUID, "varchar": oidVarchar, "text": oidText, "json": oidJSON, "bytea": oidBytea, "int4": oidInt4, "int8": oidInt8,
	"timestamp": oidTimestamp, "timestamptz": oidTimestamptz,
}

// vectorRow is the row of a vector as the decoder gives it.
func vectorRow(v *vectors.Vector) *decoder.Event {
	rel := &decoder.Relation{ID: 16384, Namespace: "public", Name: "outboxevent"}
	e := event(rel)
	for _, c := range v.Columns() {
		rel.Columns = append(rel.Columns, decoder.Column{Name: c.Name, Type: oidOf[c.Type], Modifier: -1, NotNull: c.NotNull})
		value := decoder.Value{Format: decoder.Null}
		if c.Value != nil {
			value = decoder.Value{Format: decoder.Text, Data: []byte(*c.Value)}
			if c.Type == "bytea" {
				value.Data = []byte(`\x` + hex.EncodeToString(value.Data))
			}
		}
		e.Values = append(e.Values, value)
	}
	return e
}

// vectorRouting gives our settings for the router's.
func vectorRouting(t *testing.T, v *vectors.Vector) Routing {
	t.Helper()
	routing := Routing{Debezium: true, NoTombstone: true, Context: map[string]string{"connectorLogicalName": "srv"}, Columns: map[string]string{}}
	for name, value := range v.Settings {
		switch name {
		case "table.op.invalid.behavior": // about updates, of which none is an event here
		case "route.tombstone.on.empty.payload":
			routing.NoTombstone = value != "true"
		case "table.expand.json.payload":
			routing.ExpandJSON = value == "true"
		case "route.topic.regex":
			routing.TopicRegex.Match = value
		case "route.by.field":
			routing.Columns["aggregate_type"] = value
		case "table.field.event.key":
			routing.Columns["aggregate_id"] = value
		case "table.field.event.timestamp":
			routing.Columns["timestamp"] = value
		case "table.fields.additional.placement":
			column, placed, _ := strings.Cut(value, ":")
			if placed == "partition" {
				routing.Columns["partition"] = column
			} else {
				routing.Headers = []string{strings.Replace(value, ":header", "", 1)}
			}
		default:
			t.Fatalf("vector %q has a setting %s that this test does not know", v.Name, name)
		}
	}
	return routing
}

// What becomes of rows over which the router, or the broker after it, fails. The others pass.
var (
	poisonVectors = map[string]string{
		"null aggregatetype":       "is NULL, and the topic is made from it",
		"illegal topic chars":      "outside [a-zA-Z0-9._-]",
		"newline in aggregatetype": "outside [a-zA-Z0-9._-]",
	}
	unfitVectors = map[string]string{ // for their tables
		"missing additional header": `no column "nope"`,
		"key field missing":         `no column "nope"`,
		"route.by.field=missing":    `no column "nope"`,
		"timestamp bigint":          "it must be timestamp or timestamptz",
	}
)

func TestRecordsEqualThoseOfDebeziumsRouter(t *testing.T) {
	list, err := vectors.Read("../test/testdata/debezium-vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if v.Op != "c" && v.Op != "r" {
			continue // no insert: the decoder makes no event of it
		}
		for converter, format := range map[string]Format{"string": Verbatim, "json": JSON, "json+schema": JSONWithSchema} {
			for _, headers := range []Format{Verbatim, JSONWithSchema} {
				t.Run(v.Name+"/"+converter+"/headers "+string(headers), func(t *testing.T) {
					routing := vectorRouting(t, &v)
					routing.Value, routing.HeaderFormat = format, headers
					e := vectorRow(&v)
					got, err := newTestRouter(t, routing).whole(e, commitTime)
					checkVector(t, &v, converter, headers, got, err)
				})
			}
		}
	}
}

func checkVector(t *testing.T, v *vectors.Vector, converter string, headers Format, got routed, err error) {
	t.Helper()
	var u *unroutable
	if want, ok := poisonVectors[v.Name]; ok {
		if !errors.As(err, &u) || !strings.Contains(u.reason, want) {
			t.Errorf("error %v, not one about %q", err, want)
		}
		return
	}
	if want, ok := unfitVectors[v.Name]; ok {
		if err == nil || errors.As(err, &u) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, not one about %q", err, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	want := expected(v, converter, headers)
	want.timestamp = got.timestamp // Debezium's own clock
	if got.String() != want.String() {
		t.Errorf("\ngot  %v\nwant %v", got, want)
	}
}

func (r routed) String() string {
	return strings.Join(append([]string{"", fmt.Sprintf("%s/%d", r.topic, r.partition), r.key, r.value, time.UnixMilli(r.timestamp).UTC().String()}, r.headers...), "\n\t")
}

// expected is the vector's record; where the router throws, what we make of it instead.
func expected(v *vectors.Vector, converter string, headers Format) routed {
	if v.Throws != "" { // over the type of a column that is as good for us
		with := *v
		with.Topic, with.Partition, with.Throws = "outbox.event.order", -1, ""
		if v.Name == "partition int8" {
			with.Partition = 7
		}
		empty := "{}"
		quoted := `"{}"`
		schema := `{"schema":{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1},"payload":"{}"}`
		with.Records = map[string]vectors.Record{
			"string": {Key: "1", Value: &empty}, "json": {Key: `"1"`, Value: &quoted},
			"json+schema": {Key: `{"schema":{"type":"string","optional":true},"payload":"1"}`, Value: &schema},
		}
		with.Headers = []vectors.Header{
			{Name: "__debezium.context.connectorLogicalName", Text: "srv", JSON: `{"schema":{"type":"string","optional":false},"payload":"srv"}`},
			{Name: "id", Text: vectors.ID, JSON: `{"schema":{"type":"string","optional":false,"name":"io.debezium.data.Uuid","version":1},"payload":"` + vectors.ID + `"}`},
		}
		return expected(&with, converter, headers)
	}
	record := v.Records[converter]
	want := routed{topic: v.Topic, key: record.Key, value: "<null>", partition: v.Partition}
	switch {
	case record.Throws != "" && converter == "json":
		want.value = *v.Payload
	case record.Throws != "":
		want.value = `{"schema":{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1},"payload":` + string(appendQuoted(nil, []byte(*v.Payload))) + `}`
	case strings.HasPrefix(*or(record.Value, "<null>"), "java.nio."):
		want.value = "abc" // of a bytea StringConverter writes what Java calls it; we the bytes, as the binary converters do
	default:
		want.value = *or(record.Value, "<null>")
	}
	for _, h := range v.Headers {
		text := h.Text
		if headers == JSONWithSchema {
			text = h.JSON
		}
		want.headers = append(want.headers, h.Name+"="+text)
	}
	if v.Name == "timestamp timestamptz" { // of 2019, which no record may be stamped with
		want.headers = append(want.headers, "outrider-timestamp=2019-05-03T13:31:34.484Z")
	}
	want.headers = append(want.headers, position)
	return want
}

func or(s *string, otherwise string) *string {
	if s == nil {
		return &otherwise
	}
	return s
}
