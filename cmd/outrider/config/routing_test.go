package config

import (
	"reflect"
	"testing"

	"github.com/outrider-relay/outrider/sink/route"
)

func TestRoutingIsWhatTheFileSays(t *testing.T) {
	in(t, `
outbox:
  columns: { payload: body, public.audit.payload: data }
  topic_regex: { match: '(?<routedByValue>.*)', replace: '${routedByValue}.events' }
  key: none
  key_format: verbatim
  headers: [a, "b:c"]
  header_format: json
  envelope: ["d:e"]
  value: json-with-schema
  expand_json: true
  timestamp: processing
  compat: debezium
  context_headers: { connectorLogicalName: srv }
`)
	got := mustLoad(t, Sources{Environ: least}).Outbox.Routing()
	want := route.Settings{
		Columns:    map[string]string{"payload": "body", "public.audit.payload": "data"},
		TopicRegex: route.TopicRegex{Match: "(?<routedByValue>.*)", Replace: "${routedByValue}.events"},
		Key:        "none", KeyFormat: route.Verbatim, Headers: []string{"a", "b:c"}, HeaderFormat: route.JSON, Envelope: []string{"d:e"},
		Value: route.JSONWithSchema, ExpandJSON: true, ProcessingTime: true, Debezium: true, NoTombstone: true,
		Context: map[string]string{"connectorLogicalName": "srv"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A NULL payload is a tombstone, but not to Debezium's router unless it is asked for.
func TestTombstonesAreDebeziumsWhereNothingIsSaid(t *testing.T) {
	for text, tombstone := range map[string]bool{
		"outbox: {}": true, "outbox: {tombstone_on_null: false}": false,
		"outbox: {compat: debezium}": false, "outbox: {compat: debezium, tombstone_on_null: true}": true,
	} {
		in(t, text)
		if got := mustLoad(t, Sources{Environ: least}).Outbox.TombstoneOnNull; got != tombstone {
			t.Errorf("%s: %v", text, got)
		}
	}
}
