package route

import (
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

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

// vectorSettings gives our settings for the router's.
func vectorSettings(t *testing.T, v *vectors.Vector) Settings {
	t.Helper()
	settings := Settings{Debezium: true, NoTombstone: true, Context: map[string]string{"connectorLogicalName": "srv"}, Columns: map[string]string{}}
	for name, value := range v.Settings {
		switch name {
		case "table.op.invalid.behavior": // about updates, of which none is an event here
		case "route.tombstone.on.empty.payload":
			settings.NoTombstone = value != "true"
		case "table.expand.json.payload":
			settings.ExpandJSON = value == "true"
		case "route.topic.regex":
			settings.TopicRegex.Match = value
		case "route.by.field":
			settings.Columns["aggregate_type"] = value
		case "table.field.event.key":
			settings.Columns["aggregate_id"] = value
		case "table.field.event.timestamp":
			settings.Columns["timestamp"] = value
		case "table.fields.additional.placement":
			column, placed, _ := strings.Cut(value, ":")
			if placed == "partition" {
				settings.Columns["partition"] = column
			} else {
				settings.Headers = []string{strings.Replace(value, ":header", "", 1)}
			}
		default:
			t.Fatalf("vector %q has a setting %s that this test does not know", v.Name, name)
		}
	}
	return settings
}

func TestRecordsEqualThoseOfDebeziumsRouter(t *testing.T) {
	list, err := vectors.Read("../../test/testdata/debezium-vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if v.Op != "c" && v.Op != "r" {
			continue // no insert: the decoder makes no event of it
		}
		for converter, format := range vectors.Converters {
			for _, headers := range []Format{Verbatim, JSONWithSchema} {
				t.Run(v.Name+"/"+converter+"/headers "+string(headers), func(t *testing.T) {
					settings := vectorSettings(t, &v)
					settings.Value, settings.HeaderFormat = Format(format), headers
					e := vectorRow(&v)
					got, err := newTestRouter(t, settings).whole(e, commitTime)
					checkVector(t, v.Ours(converter), headers, got, err)
				})
			}
		}
	}
}

func checkVector(t *testing.T, want vectors.Ours, headers Format, got asText, err error) {
	t.Helper()
	var u *Unroutable
	switch {
	case want.Poison != "":
		if !errors.As(err, &u) || !strings.Contains(u.Reason, want.Poison) {
			t.Errorf("error %v, not one about %q", err, want.Poison)
		}
		return
	case want.Unfit != "":
		if err == nil || errors.As(err, &u) || !strings.Contains(err.Error(), want.Unfit) {
			t.Errorf("error %v, not one about %q", err, want.Unfit)
		}
		return
	case err != nil:
		t.Fatal(err)
	}
	record := asText{topic: want.Topic, key: want.Key, value: "<null>", partition: want.Partition, timestamp: got.timestamp} // Debezium's is its own clock
	if want.Value != nil {
		record.value = *want.Value
	}
	for _, h := range want.Headers {
		text := h.Text
		if headers == JSONWithSchema {
			text = h.JSON
		}
		record.headers = append(record.headers, h.Name+"="+text)
	}
	record.headers = append(record.headers, position)
	if !reflect.DeepEqual(got, record) {
		t.Errorf("\ngot  %#v\nwant %#v", got, record)
	}
}
