package vectors

import (
	"strings"
)

// Converters are those of the vectors, and what outbox.value calls them.
var Converters = map[string]string{"string": "verbatim", "json": "json", "json+schema": "json-with-schema"}

// Ours is what the relay makes of a row: what the router made of it, or something better where that, or a converter, threw.
type Ours struct {
	Poison string // part of the reason why the row meets the policy; empty: it does not
	Unfit  string // part of the reason why its table can not be relayed with these settings; empty: it can

	Topic, Key string
	Value      *string // nil: null
	Partition  int32   // -1: by the key
	Headers    []Header
}

var (
	poison = map[string]string{
		"null aggregatetype":       "aggregate_type is NULL, and the topic is made from it",
		"illegal topic chars":      "outside [a-zA-Z0-9._-]",
		"newline in aggregatetype": "outside [a-zA-Z0-9._-]",
	}
	unfit = map[string]string{
		"missing additional header": `no column "nope"`,
		"key field missing":         `no column "nope"`,
		"route.by.field=missing":    `no column "nope"`,
		"timestamp bigint":          "it must be timestamp or timestamptz",
	}
)

const (
	stringSchema = `{"schema":{"type":"string","optional":false},"payload":`
	uuidSchema   = `{"schema":{"type":"string","optional":false,"name":"io.debezium.data.Uuid","version":1},"payload":`
	keySchema    = `{"schema":{"type":"string","optional":true},"payload":`
	jsonSchema   = `{"schema":{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1},"payload":`
)

// Ours gives it for an insert and one of Converters.
func (v *Vector) Ours(converter string) Ours {
	if reason, ok := poison[v.Name]; ok {
		return Ours{Poison: reason}
	}
	if reason, ok := unfit[v.Name]; ok {
		return Ours{Unfit: reason}
	}
	if v.Throws != "" {
		return v.accepted(converter)
	}
	r := v.Records[converter]
	ours := Ours{Topic: v.Topic, Key: r.Key, Value: r.Value, Partition: v.Partition, Headers: v.Headers}
	switch {
	case r.Throws != "" && converter == "json": // the payload as Postgres prints it
		ours.Value = v.Payload
	case r.Throws != "": // the same, as the string that it is without expansion
		value := jsonSchema + quote(*v.Payload) + "}"
		ours.Value = &value
	case r.Value != nil && strings.HasPrefix(*r.Value, "java.nio."):
		value := "abc" // StringConverter writes what Java calls the bytes; we write them, as the binary converters do
		ours.Value = &value
	}
	return ours
}

// accepted is a row over the type of whose columns the router throws, and which is as good as any for us.
func (v *Vector) accepted(converter string) Ours {
	value := map[string]string{"string": "{}", "json": `"{}"`, "json+schema": jsonSchema + `"{}"}`}[converter]
	ours := Ours{
		Topic: "outbox.event.order", Partition: -1, Value: &value,
		Key: map[string]string{"string": "1", "json": `"1"`, "json+schema": keySchema + `"1"}`}[converter],
		Headers: []Header{
			{"__debezium.context.connectorLogicalName", "srv", stringSchema + `"srv"}`},
			{"id", ID, uuidSchema + `"` + ID + `"}`},
		},
	}
	switch v.Name {
	case "partition int8":
		ours.Partition = 7
	case "timestamp timestamptz": // of 2019: nothing may be stamped with it
		ours.Headers = append(ours.Headers, Header{"outrider-timestamp", "2019-05-03T13:31:34.484Z", "2019-05-03T13:31:34.484Z"})
	}
	return ours
}

// quote makes a JSON string of a JSON text.
func quote(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }
