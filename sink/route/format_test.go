package route

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/decoder"
)

// wide is a table with a column of each type that has a form of its own.
var wide = table("wide", "id", oidUUID, "aggregate_type", oidText, "aggregate_id", oidInt8, "event_type", oidText, "payload", oidJSONB,
	"b", oidBool, "n", oidInt4, "f", oidFloat8, "g", oidFloat4, "t", oidVarchar, "j", oidJSON, "x", oidBytea, "d", oidDate, "ts", oidTimestamp, "tz", oidTimestamptz, "headers", oidJSONB)

func wideRow(payload any) *decoder.Event {
	return event(wide, "u", "order", "42", "Placed", payload, "t", "7", "1e+20", "0.5", "say \"hi\"", `{"k": 1}`, `\x616263`,
		"2026-03-01", "2026-03-01 12:00:00.123456", "2026-03-01 12:00:00.5+00", `{"h": "a\"b", "i": 12, "z": null}`)
}

func TestFormatsOfKeyValueAndHeaders(t *testing.T) {
	const payload = `{"a": 1.50}`
	every := []string{"b", "n", "f", "g", "t:text", "j", "x", "d", "ts", "tz"}
	for name, c := range map[string]struct {
		settings Settings
		payload  any
		key      string
		value    string
		headers  string
	}{
		"json": {
			Settings{Value: JSON},
			payload,
			`42`, `"{\"a\": 1.50}"`, `id=u event_type=Placed h=a"b i=12 z=<null>`,
		},
		"json with schema": {
			Settings{Value: JSONWithSchema, KeyFormat: JSONWithSchema},
			payload,
			`{"schema":{"type":"int64","optional":true},"payload":42}`, `{"schema":{"type":"string","optional":true},"payload":"{\"a\": 1.50}"}`,
			`id=u event_type=Placed h=a"b i=12 z=<null>`,
		},
		"expanded": {Settings{Value: JSON, ExpandJSON: true}, payload, `42`, `{"a":1.5}`, `id=u event_type=Placed h=a"b i=12 z=<null>`},
		"a quoted key": {
			Settings{KeyFormat: JSON, Key: "${aggregate_type}/${aggregate_id}"},
			payload,
			`"order/42"`, payload, `id=u event_type=Placed h=a"b i=12 z=<null>`,
		},
		"no key": {Settings{Key: "none", KeyFormat: JSON}, payload, `<null>`, payload, `id=u event_type=Placed h=a"b i=12 z=<null>`},
		"headers as JSON": {
			Settings{Headers: every, HeaderFormat: JSON},
			payload, `42`, payload,
			`id="u" event_type="Placed" b=true n=7 f=1e+20 g=0.5 text="say \"hi\"" j="{\"k\": 1}" x="YWJj" d="2026-03-01" ts="2026-03-01 12:00:00.123456" tz="2026-03-01 12:00:00.5+00" h="a\"b" i=12 z=<null>`,
		},
		"an envelope": {
			Settings{Envelope: every},
			payload, `42`,
			`{"payload":{"a": 1.50},"b":true,"n":7,"f":1e+20,"g":0.5,"text":"say \"hi\"","j":{"k": 1},"x":"YWJj","d":"2026-03-01","ts":"2026-03-01 12:00:00.123456","tz":"2026-03-01 12:00:00.5+00"}`,
			`id=u event_type=Placed h=a"b i=12 z=<null>`,
		},
		"an envelope of JSON strings": {Settings{Envelope: []string{"j"}, Value: JSON}, payload, `42`, `{"payload":"{\"a\": 1.50}","j":"{\"k\": 1}"}`, `id=u event_type=Placed h=a"b i=12 z=<null>`},
		"an envelope's tombstone":     {Settings{Envelope: []string{"j"}}, nil, `42`, `<null>`, `id=u event_type=Placed h=a"b i=12 z=<null>`},
		"as Debezium's router": {
			Settings{Debezium: true, Headers: every},
			payload, `42`, payload,
			`__debezium.context.connectorLogicalName=orders id=u b=true n=7 f=1.0E20 g=0.5 text=say "hi" j={"k": 1} x=abc d=20513 ts=1772366400123456 tz=2026-03-01T12:00:00.5Z`,
		},
		"as Debezium's router, enveloped": {
			Settings{Debezium: true, Envelope: []string{"event_type:eventType", "ts"}, Value: JSON, KeyFormat: Verbatim, Columns: map[string]string{"headers": "headers"}},
			payload, `42`,
			`{"payload":"{\"a\": 1.50}","eventType":"Placed","ts":1772366400123456}`, `__debezium.context.connectorLogicalName=orders id=u h=a"b i=12 z=<null>`,
		},
		"as Debezium's router, enveloped with schemas": {
			Settings{Debezium: true, Envelope: []string{"event_type:eventType"}, Value: JSONWithSchema, Context: map[string]string{"connectorLogicalName": "srv", "taskId": "0"}},
			payload,
			`{"schema":{"type":"int64","optional":true},"payload":42}`,
			`{"schema":{"type":"struct","fields":[{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1,"field":"payload"},{"type":"string","optional":true,"field":"eventType"}],"optional":false,"name":"srv.public.wide.order.Value"},"payload":{"payload":"{\"a\": 1.50}","eventType":"Placed"}}`,
			`__debezium.context.connectorLogicalName=srv __debezium.context.taskId=0 id=u`,
		},
		"as Debezium's router, expanded in an envelope": {
			Settings{Debezium: true, Envelope: []string{"n"}, Value: JSONWithSchema, ExpandJSON: true},
			payload,
			`{"schema":{"type":"int64","optional":true},"payload":42}`,
			`{"schema":{"type":"struct","fields":[{"type":"struct","fields":[{"type":"double","optional":true,"field":"a"}],"optional":true,"name":"payload","field":"payload"},{"type":"int32","optional":true,"field":"n"}],"optional":false,"name":"orders.public.wide.order.Value"},"payload":{"payload":{"a":1.5},"n":7}}`,
			`__debezium.context.connectorLogicalName=orders id=u`,
		},
		"as StringConverter shows an envelope": {
			Settings{Debezium: true, Envelope: []string{"n", "t"}, NoTombstone: true}, nil, `42`, `Struct{n=7,t=say "hi"}`, `__debezium.context.connectorLogicalName=orders id=u`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestRouter(t, c.settings)
			for range 2 {
				got, err := r.whole(wideRow(c.payload), commitTime)
				if err != nil {
					t.Fatal(err)
				}
				headers := strings.Join(got.headers[:len(got.headers)-1], " ")
				if got.key != c.key || got.value != c.value || headers != c.headers {
					t.Errorf("got  %s\n\t%s\n\t%s\nwant %s\n\t%s\n\t%s", got.key, got.value, headers, c.key, c.value, c.headers)
				}
			}
		})
	}
}

// As Debezium's router, but for a table of which nobody has said that it takes no NULL.
func TestNullsAsDebeziumWritesThem(t *testing.T) {
	rel := table("t", "id", oidUUID, "aggregatetype", oidText, "aggregateid", oidText, "payload", oidText, "note", oidText)
	for format, want := range map[Format]string{
		Verbatim:       `<null> <null> note=<null>`,
		JSON:           `null null note=null`,
		JSONWithSchema: `{"schema":{"type":"string","optional":true},"payload":null} {"schema":{"type":"string","optional":true},"payload":null} note={"schema":{"type":"string","optional":true},"payload":null}`,
	} {
		r := newTestRouter(t, Settings{Debezium: true, NoTombstone: true, Value: format, HeaderFormat: format, Headers: []string{"note"}})
		got, err := r.whole(event(rel, "1", "order", nil, nil, nil), commitTime)
		if err != nil {
			t.Fatal(err)
		}
		if s := got.key + " " + got.value + " " + got.headers[2]; s != want {
			t.Errorf("%s: got  %s\nwant %s", format, s, want)
		}
	}
}

func TestOneTableMayHaveColumnsOfItsOwn(t *testing.T) {
	r := newTestRouter(t, Settings{Columns: map[string]string{"payload": "body", "public.other.payload": "data", "public.other.aggregate_id": "event_type"}})
	for rel, want := range map[*decoder.Relation]string{
		table("t", "event_type", oidText, "body", oidText, "data", oidText):                             "<null> b",
		table("other", "event_type", oidText, "body", oidText, "data", oidText):                         "x d",
		table("third", "event_type", oidText, "body", oidText, "data", oidText, "aggregateid", oidText): "k b",
	} {
		got, err := r.whole(event(rel, "x", "b", "d", "k"), commitTime)
		if err != nil || got.key+" "+got.value != want {
			t.Errorf("%s: %s %s, %v; want %s", rel, got.key, got.value, err, want)
		}
	}
}

func TestTimestampsFromTheRowObeyTheSameRule(t *testing.T) {
	rel := table("t", "event_type", oidText, "payload", oidText, "at", oidTimestamptz)
	byRow := Settings{Columns: map[string]string{"timestamp": "at"}}
	now := commitTime.Add(30 * time.Second)
	for name, c := range map[string]struct {
		settings Settings
		at       any
		stamp    time.Time
		late     string
	}{
		"a minute ago":     {byRow, "2026-03-01 11:59:30.5+00", time.Date(2026, 3, 1, 11, 59, 30, 5e8, time.UTC), ""},
		"two hours ago":    {byRow, "2026-03-01 10:00:00+00", now, "outrider-timestamp=2026-03-01T10:00:00Z"},
		"of another zone":  {byRow, "2026-03-01 13:59:30+02", time.Date(2026, 3, 1, 11, 59, 30, 0, time.UTC), ""},
		"from the future":  {byRow, "2026-03-01 13:00:00+00", now, "outrider-timestamp=2026-03-01T13:00:00Z"},
		"none":             {byRow, nil, commitTime, ""},
		"of the clock":     {Settings{ProcessingTime: true}, nil, now, ""},
		"row before clock": {Settings{ProcessingTime: true, Columns: byRow.Columns}, "2026-03-01 11:59:30.5+00", time.Date(2026, 3, 1, 11, 59, 30, 5e8, time.UTC), ""},
	} {
		got, err := newTestRouter(t, c.settings).whole(event(rel, "x", "{}", c.at), now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		late := ""
		if len(got.headers) > 2 {
			late = got.headers[1]
		}
		if got.timestamp != c.stamp.UnixMilli() || late != c.late {
			t.Errorf("%s: stamped %s, %q; want %s, %q", name, time.UnixMilli(got.timestamp).UTC(), late, c.stamp, c.late)
		}
	}
	for _, at := range []string{"infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "12026-01-01 00:00:00+00"} {
		_, err := newTestRouter(t, byRow).whole(event(rel, "x", "{}", at), now)
		if u := (*Unroutable)(nil); !errors.As(err, &u) || !strings.Contains(u.Reason, "no time that a record can carry") {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func TestTraceContextReachesTheRecord(t *testing.T) {
	const store = "#Sun Mar 01 12:00:00 UTC 2026\n! a comment\n  traceparent = 00-a-b-01\r\ntracestate=k\\=v,\\u0078\\:y\\\\\n"
	rel := table("t", "id", oidText, "event_type", oidText, "aggregatetype", oidText, "aggregateid", oidText, "payload", oidText, "tracingspancontext", oidVarchar)
	for _, c := range []struct {
		settings Settings
		context  any
		want     string
	}{
		{Settings{}, store, `id=1 event_type=e traceparent=00-a-b-01 tracestate=k=v,x:y\`},
		{Settings{}, nil, "id=1 event_type=e"},
		{Settings{}, "", "id=1 event_type=e"},
		{Settings{Debezium: true}, store, `__debezium.context.connectorLogicalName=orders traceparent=00-a-b-01 tracestate=k=v,x:y\ id=1`},
	} {
		got, err := newTestRouter(t, c.settings).whole(event(rel, "1", "e", "a", "k", "{}", c.context), commitTime)
		if err != nil {
			t.Fatal(err)
		}
		if headers := strings.Join(got.headers[:len(got.headers)-1], " "); headers != c.want {
			t.Errorf("%q: %s, want %s", c.context, headers, c.want)
		}
	}
}

// After a restart events are told apart by the id in Kafka, which may have been written in another format.
func TestEventIDIsTheSameInEveryFormat(t *testing.T) {
	for _, e := range []*decoder.Event{event(ownTable, `a"b`, "order", "42", "X", "{}"), event(tutorialTable, "17", "X", "{}"), event(ownTable, `"q"`, "order", "42", "X", "{}")} {
		for _, f := range []Format{Verbatim, JSON, JSONWithSchema} {
			r := newTestRouter(t, Settings{HeaderFormat: f})
			id, err := r.EventID(e)
			if err != nil {
				t.Fatal(err)
			}
			routed, err := r.Route(e, commitTime)
			if err != nil {
				t.Fatal(err)
			}
			if header := routed.Record.Headers[0]; string(header.Key) != HeaderID || string(PlainID(header.Value)) != string(id) {
				t.Errorf("header %s=%s, of event %s", header.Key, header.Value, id)
			}
		}
	}
}

func TestCloudEventsNameWhatTheyLack(t *testing.T) {
	r := newTestRouter(t, Settings{Value: CloudEventsBinary, Source: "${tenant}"})
	rel := table("t", "id", oidText, "event_type", oidText, "payload", oidBytea, "tenant", oidText, "headers", oidJSONB)
	for _, c := range []struct {
		event *decoder.Event
		want  string
	}{
		{event(rel, nil, "e", `\x00`, "acme"), "event_type=e ce_specversion=1.0 ce_type=e ce_id=1:0/16B3748:7 ce_source=acme ce_time=2026-03-01T12:00:00.123456Z content-type=application/octet-stream"},
		{event(rel, "1", "e", nil, "acme", `{"ce_id": "forged", "content-type": "x", "ce_ext": "kept"}`), "id=1 event_type=e ce_specversion=1.0 ce_type=e ce_id=1 ce_source=acme ce_time=2026-03-01T12:00:00.123456Z ce_ext=kept"},
		{event(rel, "1", nil, `\x00`, "acme"), "event_type is NULL"},
		{event(rel, "1", "", `\x00`, "acme"), "the event type is NULL or empty"},
		{event(rel, "1", "e", `\x00`, nil), "tenant is NULL or empty, and the source of a CloudEvent is made from it"},
	} {
		got, err := r.whole(c.event, commitTime)
		said := ""
		if err != nil {
			said = err.Error()
		} else {
			said = strings.Join(got.headers[:len(got.headers)-1], " ")
		}
		if !strings.Contains(said, c.want) {
			t.Errorf("%s, want %s", said, c.want)
		}
	}
	if _, err := newTestRouter(t, Settings{Value: CloudEventsBinary, Topic: "x"}).whole(event(table("t", "payload", oidText), "x"), commitTime); err == nil || !strings.Contains(err.Error(), "CloudEvents must have") {
		t.Errorf("a table without event types: %v", err)
	}
}

// That a table has no key, and so no order, must not be found out from Kafka.
func TestTableWithoutKeyIsToldOnce(t *testing.T) {
	var told strings.Builder
	r, err := New("orders", Settings{}, zerolog.New(&told))
	if err != nil {
		t.Fatal(err)
	}
	keyless := *tutorialTable
	keyless.ID++
	for range 3 {
		for _, e := range []*decoder.Event{event(ownTable, "1", "order", "42", "X", "{}"), event(&keyless, "17", "X", "{}")} {
			if _, err := r.whole(e, commitTime); err != nil {
				t.Fatal(err)
			}
		}
	}
	if strings.Count(told.String(), "no key") != 1 || !strings.Contains(told.String(), "public.outbox_table") {
		t.Errorf("told: %q", told.String())
	}
}
