package route

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/decoder"
)

// message is a logical message as an event.
func message(content string) *decoder.Event {
	return &decoder.Event{
		Position: decoder.Position{Timeline: 1, LSN: 0x16B3748, Ordinal: 7}, CommitTime: commitTime,
		Prefix: "orders", Content: []byte(content),
	}
}

func TestMessagesBecomeRecordsAsRowsDo(t *testing.T) {
	const order = `"aggregate_type": "order", "aggregate_id": "42", "event_type": "OrderPlaced"`
	plain := []string{"event_type=OrderPlaced", position}
	for name, c := range map[string]struct {
		settings Settings
		content  string
		want     asText
	}{
		"all fields": {
			Settings{},
			`{"id": "e-1", ` + order + `, "payload": {"a": 1}, "headers": {"tenant": "acme", "n": 1.50, "none": null}}`,
			asText{"outbox.event.order", "42", `{"a": 1}`, -1, []string{"id=e-1", "event_type=OrderPlaced", "tenant=acme", "n=1.50", "none=<null>", position}, 0},
		},
		"no id, no headers":           {Settings{}, `{` + order + `, "payload": {}}`, asText{"outbox.event.order", "42", `{}`, -1, plain, 0}},
		"null id, null headers":       {Settings{}, `{` + order + `, "payload": {}, "id": null, "headers": null}`, asText{"outbox.event.order", "42", `{}`, -1, plain, 0}},
		"payload byte for byte":       {Settings{}, `{` + order + `, "payload" :  {"n":1.50 ,  "b": 123456789012345678901234567890, "s": "\u00e9\n\""} }`, asText{"outbox.event.order", "42", `{"n":1.50 ,  "b": 123456789012345678901234567890, "s": "\u00e9\n\""}`, -1, plain, 0}},
		"a payload that is an array":  {Settings{}, `{` + order + `, "payload": [1, {"a": []}]}`, asText{"outbox.event.order", "42", `[1, {"a": []}]`, -1, plain, 0}},
		"a payload that is a string":  {Settings{}, `{` + order + `, "payload": "a \"b\" \u00e9"}`, asText{"outbox.event.order", "42", `"a \"b\" \u00e9"`, -1, plain, 0}},
		"a payload that is empty":     {Settings{}, `{` + order + `, "payload": ""}`, asText{"outbox.event.order", "42", `""`, -1, plain, 0}},
		"a payload that is a number":  {Settings{}, `{` + order + `, "payload": -1.0e5}`, asText{"outbox.event.order", "42", `-1.0e5`, -1, plain, 0}},
		"a payload that is false":     {Settings{}, `{` + order + `, "payload": false}`, asText{"outbox.event.order", "42", `false`, -1, plain, 0}},
		"a payload of null":           {Settings{}, `{` + order + `, "payload": null}`, asText{"outbox.event.order", "42", `<null>`, -1, plain, 0}},
		"the last of equal members":   {Settings{}, `{"payload": 1, ` + order + `, "pay\u006coad": 2, "aggregate_id": null, "aggregate_id": "43"}`, asText{"outbox.event.order", "43", `2`, -1, plain, 0}},
		"texts with escapes":          {Settings{}, `{` + order + `, "payload": 1, "id": "\u00e9\ud83d\ude00\t", "aggregate_id": "a\"b\\c"}`, asText{"outbox.event.order", `a"b\c`, `1`, -1, []string{"id=é😀\t", "event_type=OrderPlaced", position}, 0}},
		"numbers as texts":            {Settings{}, `{` + order + `, "payload": 1, "id": 12345678901234567890, "aggregate_id": 7.0}`, asText{"outbox.event.order", `7.0`, `1`, -1, []string{"id=12345678901234567890", "event_type=OrderPlaced", position}, 0}},
		"the names of Debezium":       {Settings{}, `{"id": "e-1", "aggregatetype": "order", "aggregateid": "42", "type": "OrderPlaced", "payload": {}}`, asText{"outbox.event.order", "42", `{}`, -1, []string{"id=e-1", "event_type=OrderPlaced", position}, 0}},
		"tracing members":             {Settings{}, `{` + order + `, "payload": 1, "traceparent": "00-1-2-01", "tracestate": "v=1", "other": 1}`, asText{"outbox.event.order", "42", `1`, -1, []string{"event_type=OrderPlaced", "traceparent=00-1-2-01", "tracestate=v=1", position}, 0}},
		"members of templates":        {Settings{Topic: "${tenant}.${event_type}", Key: "${shop.id}"}, `{` + order + `, "payload": 1, "tenant": "acme", "shop.id": 3}`, asText{"acme.OrderPlaced", "3", `1`, -1, plain, 0}},
		"members placed as headers":   {Settings{Headers: []string{"tenant", "aggregate_type:kind", "more"}}, `{` + order + `, "payload": 1, "tenant": "acme", "more": {"a": [1]}}`, asText{"outbox.event.order", "42", `1`, -1, []string{"event_type=OrderPlaced", "tenant=acme", "kind=order", `more={"a": [1]}`, position}, 0}},
		"a role's other name, placed": {Settings{Headers: []string{"type:eventType"}}, `{"aggregatetype": "order", "aggregateid": "42", "type": "OrderPlaced", "payload": 1}`, asText{"outbox.event.order", "42", `1`, -1, []string{"event_type=OrderPlaced", "eventType=OrderPlaced", position}, 0}},
		"other members for the roles": {Settings{Columns: map[string]string{"payload": "body", "aggregate_id": "order_id", "topic": "to", "partition": "shard"}}, `{` + order + `, "payload": 1, "body": "x", "order_id": "43", "to": "billing", "shard": 3}`, asText{"billing", "43", `"x"`, 3, plain, 0}},
		"an empty key":                {Settings{}, `{` + order + `, "payload": 1, "aggregate_id": ""}`, asText{"outbox.event.order", "", `1`, -1, plain, 0}},
		"space around":                {Settings{}, "\n {" + order + ", \"payload\": 1}\t\n", asText{"outbox.event.order", "42", `1`, -1, plain, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestRouter(t, c.settings)
			c.want.timestamp = commitTime.UnixMilli()
			for range 2 { // what one message leaves behind must not show in the next
				got, err := r.whole(message(c.content), commitTime.Add(time.Second))
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Fatalf("\ngot  %#v\nwant %#v", got, c.want)
				}
			}
		})
	}
}

func TestRowsAndMessagesMayAlternate(t *testing.T) {
	r := newTestRouter(t, Settings{})
	for i := range 4 {
		e, id := message(`{"id": "message", "aggregate_type": "order", "aggregate_id": "42", "payload": {}}`), "message"
		if i%2 == 1 {
			e, id = event(ownTable, "row", "order", "42", "X", "{}"), "row"
		}
		if got, err := r.whole(e, commitTime); err != nil || got.headers[0] != "id="+id {
			t.Fatalf("%s: %#v, %v", id, got, err)
		}
	}
}

func TestMessagesThatAreNoEventsAreToldApart(t *testing.T) {
	for name, c := range map[string]struct{ content, reason string }{
		"nothing":               {``, "not JSON"},
		"text":                  {`order placed`, "not JSON"},
		"cut short":             {`{"payload": 1`, "not JSON"},
		"something behind":      {`{"payload": 1} {}`, "not JSON"},
		"another encoding":      {"{\"payload\": \"\xe9\"}", "UTF-8"},
		"an array":              {`[{"payload": 1}]`, "no JSON object"},
		"a string":              {`"{}"`, "no JSON object"},
		"null":                  {`null`, "no JSON object"},
		"no payload":            {`{"aggregate_type": "order", "aggregate_id": "42"}`, "has no payload"},
		"no topic":              {`{"aggregate_id": "42", "payload": 1}`, "aggregate_type is NULL, and the topic"},
		"null topic":            {`{"aggregate_type": null, "aggregate_id": "42", "payload": 1}`, "aggregate_type is NULL, and the topic"},
		"no key":                {`{"aggregate_type": "order", "payload": 1}`, "aggregate_id is NULL, and the key"},
		"an object for a topic": {`{"aggregate_type": {"a": 1}, "aggregate_id": "42", "payload": 1}`, "outside [a-zA-Z0-9._-]"},
		"headers are an array":  {`{"aggregate_type": "order", "aggregate_id": "42", "payload": 1, "headers": []}`, "headers are no JSON object"},
		"headers are a string":  {`{"aggregate_type": "order", "aggregate_id": "42", "payload": 1, "headers": "{}"}`, "headers are no JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestRouter(t, Settings{})
			// What a message before it said must not fill in what this one lacks.
			if _, err := r.whole(message(`{"id": "before", "aggregate_type": "order", "aggregate_id": "42", "event_type": "X", "payload": {}}`), commitTime); err != nil {
				t.Fatal(err)
			}
			got, err := r.whole(message(c.content), commitTime)
			var u *Unroutable
			if !errors.As(err, &u) {
				t.Fatalf("routed to %#v, error %v", got, err)
			}
			if !strings.Contains(u.Reason, c.reason) {
				t.Errorf("reason %q does not say %q", u.Reason, c.reason)
			}
			if id, err := r.EventID(message(c.content)); id != nil || err != nil {
				t.Errorf("id %q, error %v", id, err)
			}
		})
	}
}

// FuzzMessage compares what is read with what encoding/json reads.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		`{"id": "e-1", "aggregate_type": "order", "payload": {"a": [1.50, "\ud83d\ude00"]}, "headers": {}}`,
		`{"payload": null, "id": "\ud83dx", "id": "\"\\\/\b\f\n\r\t\u0000"}`, `{"pay\u006coad": "", "event_type": 1e400}`,
		`[]`, `{}`, `{"payload": 1}}`, "{\"payload\": \"\xff\"}", `{"a": {"payload": 1}, "payload" : [ ] , "id": true }`,
	} {
		f.Add([]byte(seed))
	}
	r := newTestRouter(f, Settings{Headers: []string{"extra"}})
	f.Fuzz(func(t *testing.T, content []byte) {
		row, _, err := r.row(&decoder.Event{Content: content})
		var members map[string]json.RawMessage
		if wrong := json.Unmarshal(content, &members); (wrong == nil && members["payload"] != nil) != (err == nil) {
			if err == nil || !strings.Contains(err.Error(), "UTF-8") {
				t.Fatalf("%q: error %v, and of encoding/json %v", content, err, wrong)
			}
		}
		if err != nil {
			return
		}
		for i, column := range row.Relation.Columns {
			want, text := string(members[column.Name]), ""
			switch {
			case want == "" || want == "null":
				want = "<null>"
			case column.Type == oidText && want[0] == '"':
				if err := json.Unmarshal(members[column.Name], &text); err != nil {
					t.Fatal(err)
				}
				want = text
			}
			got := string(row.Values[i].Data)
			if row.Values[i].Format == decoder.Null {
				got = "<null>"
			}
			if got != want && !aliased(members, column.Name) {
				t.Errorf("%q: member %s is %q, want %q", content, column.Name, got, want)
			}
		}
	})
}

// aliased says whether a member of another name fills the column as well.
func aliased(members map[string]json.RawMessage, column string) bool {
	for _, names := range columnNames {
		for _, name := range names[min(1, len(names)):] {
			if names[0] == column && members[name] != nil {
				return true
			}
		}
	}
	return false
}
