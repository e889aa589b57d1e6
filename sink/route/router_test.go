package route

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/decoder"
)

// table describes one; columns are name, OID, name, OID, ...
func table(name string, columns ...any) *decoder.Relation {
	rel := &decoder.Relation{ID: 16384, Namespace: "public", Name: name}
	for i := 0; i < len(columns); i += 2 {
		rel.Columns = append(rel.Columns, decoder.Column{Name: columns[i].(string), Type: uint32(columns[i+1].(int)), Modifier: -1})
	}
	return rel
}

// The tables of the contract: our own, with and without binary payloads, and the one of the outbox pattern's tutorial.
var (
	ownTable = table("outbox", "id", oidUUID, "aggregate_type", oidText, "aggregate_id", oidText, "event_type", oidText,
		"payload", oidJSONB, "headers", oidJSONB, "created_at", oidTimestamptz)
	byteaTable = table("outbox_bytes", "id", oidUUID, "aggregate_type", oidText, "aggregate_id", oidText, "event_type", oidText,
		"payload", oidBytea, "headers", oidJSONB, "created_at", oidTimestamptz)
	tutorialTable = table("outbox_table", "id", oidInt4, "event_type", oidVarchar, "payload", oidJSONB,
		"created_at", oidTimestamptz, "processed", oidBool)
)

var commitTime = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// event makes one of a row; a value is a string, or nil for NULL.
func event(rel *decoder.Relation, values ...any) *decoder.Event {
	e := &decoder.Event{
		Position:   decoder.Position{Timeline: 1, LSN: 0x16B3748, Ordinal: 7},
		CommitTime: commitTime, Relation: rel, Values: make([]decoder.Value, len(rel.Columns)),
	}
	for i := range e.Values {
		e.Values[i] = decoder.Value{Format: decoder.Null}
		if i < len(values) && values[i] != nil {
			e.Values[i] = decoder.Value{Format: decoder.Text, Data: append([]byte{}, values[i].(string)...)}
		}
	}
	return e
}

func newTestRouter(t testing.TB, settings Settings) *Router {
	t.Helper()
	r, err := New("orders", settings, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	r.MaxTimestampAge = time.Hour
	return r
}

// asText is a record as text: easy to compare, and copied out of the router's memory.
type asText struct {
	topic, key, value string
	partition         int32
	headers           []string
	timestamp         int64
}

func text(b []byte) string {
	if b == nil {
		return "<null>"
	}
	return string(b)
}

// whole routes e as a sink does: the topic is checked as well.
func (r *Router) whole(e *decoder.Event, now time.Time) (asText, error) {
	got, err := r.Route(e, now)
	if err == nil {
		err = r.CheckTopic(got.Topic)
	}
	if err != nil {
		return asText{}, err
	}
	out := asText{topic: string(got.Topic), key: text(got.Record.Key), value: text(got.Record.Value), partition: got.Partition, timestamp: got.Record.Timestamp}
	for _, h := range got.Record.Headers {
		out.headers = append(out.headers, string(h.Key)+"="+text(h.Value))
	}
	return out, nil
}

const position = "outrider-position=orders:1:0/16B3748:7"

func TestRowsBecomeRecordsAsTheContractSays(t *testing.T) {
	const uuid = "0194e9c3-7cb1-7aaa-8000-0123456789ab"
	own := func(values ...any) *decoder.Event { return event(ownTable, values...) }
	order := own(uuid, "order", "42", "OrderPlaced", `{"a": 1}`)
	extra := table("outbox", "id", oidUUID, "aggregate_type", oidText, "aggregate_id", oidText, "event_type", oidText, "payload", oidText,
		"traceparent", oidText, "tracestate", oidText, "tenant", oidText, "shard", oidInt4, "destination", oidText)
	plain := []string{"id=" + uuid, "event_type=OrderPlaced"}
	with := func(headers ...string) []string { return append(append(slices.Clone(plain), headers...), position) }

	for name, c := range map[string]struct {
		settings Settings
		event    *decoder.Event
		want     asText
	}{
		"our own table": {Settings{}, order, asText{"outbox.event.order", "42", `{"a": 1}`, -1, with(), 0}},
		"the tutorial's table": {
			Settings{},
			event(tutorialTable, "17", "UserRegistered", `{"user": "x"}`, "2026-03-01 12:00:00", "f"),
			asText{"UserRegistered", "<null>", `{"user": "x"}`, -1, []string{"id=17", "event_type=UserRegistered", position}, 0},
		},
		"the tutorial's table with a key": {
			Settings{Key: "${id}"},
			event(tutorialTable, "17", "UserRegistered", `{}`),
			asText{"UserRegistered", "17", `{}`, -1, []string{"id=17", "event_type=UserRegistered", position}, 0},
		},
		"well-known names of others": {
			Settings{},
			event(table("outboxevent", "id", oidUUID, "aggregatetype", oidVarchar, "aggregateid", oidVarchar, "type", oidVarchar, "payload", oidVarchar),
				uuid, "order", "42", "OrderPlaced", "{}"),
			asText{"outbox.event.order", "42", "{}", -1, with(), 0},
		},
		"a payload is passed byte for byte": {
			Settings{},
			own(uuid, "order", "42", "OrderPlaced", "{\"n\":  123456789012345678901234567890.0, \"s\": \"\\u00e9 é\"}"),
			asText{"outbox.event.order", "42", "{\"n\":  123456789012345678901234567890.0, \"s\": \"\\u00e9 é\"}", -1, with(), 0},
		},
		"an empty payload is empty, not null":   {Settings{}, own(uuid, "order", "42", "OrderPlaced", ""), asText{"outbox.event.order", "42", "", -1, with(), 0}},
		"an empty key is empty, not null":       {Settings{}, own(uuid, "order", "", "OrderPlaced", "{}"), asText{"outbox.event.order", "", "{}", -1, with(), 0}},
		"a NULL payload is a tombstone":         {Settings{}, own(uuid, "order", "42", "OrderPlaced", nil), asText{"outbox.event.order", "42", "<null>", -1, with(), 0}},
		"a NULL id has no header":               {Settings{}, own(nil, "order", "42", "OrderPlaced", "{}"), asText{"outbox.event.order", "42", "{}", -1, []string{"event_type=OrderPlaced", position}, 0}},
		"the position can be left out":          {Settings{OmitPosition: true}, order, asText{"outbox.event.order", "42", `{"a": 1}`, -1, plain, 0}},
		"bytea is passed as its bytes":          {Settings{}, event(byteaTable, uuid, "order", "42", "OrderPlaced", `\x00ff10`), asText{"outbox.event.order", "42", "\x00\xff\x10", -1, with(), 0}},
		"an empty bytea is empty, not null":     {Settings{}, event(byteaTable, uuid, "order", "42", "OrderPlaced", `\x`), asText{"outbox.event.order", "42", "", -1, with(), 0}},
		"templates take columns and roles":      {Settings{Topic: "a.${event_type}.${aggregate_type}-z", Key: "${aggregate_id}/${id}"}, order, asText{"a.OrderPlaced.order-z", "42/" + uuid, `{"a": 1}`, -1, with(), 0}},
		"a literal topic":                       {Settings{Topic: "events"}, order, asText{"events", "42", `{"a": 1}`, -1, with(), 0}},
		"tracing columns become headers":        {Settings{}, event(extra, uuid, "order", "42", "OrderPlaced", "{}", "00-1-2-01", "v=1"), asText{"outbox.event.order", "42", "{}", -1, with("traceparent=00-1-2-01", "tracestate=v=1"), 0}},
		"columns are placed as headers":         {Settings{Headers: []string{"tenant", "aggregate_type:kind"}}, event(extra, uuid, "order", "42", "OrderPlaced", "{}", nil, nil, "acme"), asText{"outbox.event.order", "42", "{}", -1, with("tenant=acme", "kind=order"), 0}},
		"a partition column decides":            {Settings{Columns: map[string]string{"partition": "shard"}}, event(extra, uuid, "order", "42", "OrderPlaced", "{}", nil, nil, nil, "3"), asText{"outbox.event.order", "42", "{}", 3, with(), 0}},
		"a NULL partition leaves it to the key": {Settings{Columns: map[string]string{"partition": "shard"}}, event(extra, uuid, "order", "42", "OrderPlaced", "{}"), asText{"outbox.event.order", "42", "{}", -1, with(), 0}},
		"a topic column and a key column": {
			Settings{Columns: map[string]string{"topic": "destination", "key": "tenant"}},
			event(extra, uuid, "order", "42", "OrderPlaced", "{}", nil, nil, "acme", nil, "billing"),
			asText{"billing", "acme", "{}", -1, with(), 0},
		},
		"allowed by name":   {Settings{AllowedTopics: []string{"x", "outbox.event.order"}}, order, asText{"outbox.event.order", "42", `{"a": 1}`, -1, with(), 0}},
		"allowed by prefix": {Settings{AllowedTopics: []string{"outbox.*"}}, order, asText{"outbox.event.order", "42", `{"a": 1}`, -1, with(), 0}},
		"a row's headers": {
			Settings{},
			own(uuid, "order", "42", "OrderPlaced", "{}", `{"s": "x", "n": 1.50, "b": true, "z": null, "o": {"k": [1, "2"]}, "a": [], "e": ""}`),
			asText{"outbox.event.order", "42", "{}", -1, with("s=x", "n=1.50", "b=true", "z=<null>", `o={"k": [1, "2"]}`, "a=[]", "e="), 0},
		},
		"headers with escapes": {
			Settings{},
			own(uuid, "order", "42", "OrderPlaced", "{}", `{"q\"\\\u00fc": "line\nend \"é\" \ud83d\ude00", "ключ": "значение 😀"}`),
			asText{"outbox.event.order", "42", "{}", -1, with("q\"\\ü=line\nend \"é\" 😀", "ключ=значение 😀"), 0},
		},
		"half a surrogate has no UTF-8": { // PostgreSQL lets it pass in json, though not in jsonb
			Settings{},
			own(uuid, "order", "42", "OrderPlaced", "{}", `{"a": "x\ud83dy"}`),
			asText{"outbox.event.order", "42", "{}", -1, with("a=x\uFFFDy"), 0},
		},
		"an empty headers object": {Settings{}, own(uuid, "order", "42", "OrderPlaced", "{}", "{ }"), asText{"outbox.event.order", "42", "{}", -1, with(), 0}},
		"headers of ours are dropped": {
			Settings{},
			own(uuid, "order", "42", "OrderPlaced", "{}", `{"outrider-position": "forged", "outrider-\u0078": 1, "kept": "1"}`),
			asText{"outbox.event.order", "42", "{}", -1, with("kept=1"), 0},
		},
		"headers that lie in a text column": {
			Settings{},
			event(table("t", "id", oidText, "aggregate_type", oidText, "aggregate_id", oidText, "event_type", oidText, "payload", oidText, "headers", oidText),
				uuid, "order", "42", "OrderPlaced", "{}", ` { "a" : "b" } `),
			asText{"outbox.event.order", "42", "{}", -1, with("a=b"), 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestRouter(t, c.settings)
			c.want.timestamp = commitTime.UnixMilli()
			for range 2 { // what one row leaves behind must not show in the next
				got, err := r.whole(c.event, commitTime.Add(time.Second))
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

func TestDroppedHeadersAreCounted(t *testing.T) {
	r := newTestRouter(t, Settings{})
	r.HeadersDropped = prometheus.NewCounter(prometheus.CounterOpts{Name: "dropped"})
	e := event(ownTable, "1", "order", "42", "X", "{}", `{"outrider-position": "forged", "outrider-": 1, "kept": "1"}`)
	if _, err := r.whole(e, commitTime); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(r.HeadersDropped); n != 2 {
		t.Errorf("%v headers counted, not 2", n)
	}
}

func TestPoisonRowsAreToldApart(t *testing.T) {
	loose := table("loose", "id", oidText, "aggregate_type", oidText, "aggregate_id", oidText, "event_type", oidText, "payload", oidText, "headers", oidText, "shard", oidInt8)
	row := func(topic, key any) *decoder.Event { return event(ownTable, "id-1", topic, key, "X", "{}") }
	headers := func(rel *decoder.Relation, h string) *decoder.Event {
		return event(rel, "id-1", "order", "42", "X", "{}", h)
	}
	shard := func(v string) *decoder.Event { return event(loose, "id-1", "order", "42", "X", "{}", nil, v) }
	byShard := Settings{Columns: map[string]string{"partition": "shard"}}
	for name, c := range map[string]struct {
		settings Settings
		event    *decoder.Event
		reason   string
	}{
		"NULL topic":                    {Settings{}, row(nil, "42"), "aggregate_type is NULL, and the topic"},
		"NULL key":                      {Settings{}, row("order", nil), "aggregate_id is NULL, and the key"},
		"empty topic":                   {Settings{Topic: "${aggregate_type}"}, row("", "42"), "0 characters"},
		"topic too long":                {Settings{}, row(strings.Repeat("x", 237), "42"), "250 characters"},
		"topic .":                       {Settings{Topic: "${aggregate_type}"}, row(".", "42"), `"." is not a topic`},
		"topic ..":                      {Settings{Topic: "${aggregate_type}"}, row("..", "42"), `".." is not a topic`},
		"topic with a space":            {Settings{}, row("an order", "42"), "outside [a-zA-Z0-9._-]"},
		"topic beyond ASCII":            {Settings{}, row("é", "42"), "outside [a-zA-Z0-9._-]"},
		"topic that is no UTF-8":        {Settings{}, row("\xff", "42"), "outside [a-zA-Z0-9._-]"},
		"internal topic":                {Settings{Topic: "${aggregate_type}"}, row("__consumer_offsets", "42"), "internal"},
		"topic not allowed":             {Settings{AllowedTopics: []string{"outbox.event.a*", "b"}}, row("order", "42"), "allowed_topics"},
		"NULL payload where it is none": {Settings{NoTombstone: true}, event(ownTable, "id-1", "order", "42", "X", nil), "payload is NULL"},
		"headers are an array":          {Settings{}, headers(ownTable, `["a"]`), "no JSON object"},
		"headers are a string":          {Settings{}, headers(ownTable, `"a"`), "no JSON object"},
		"headers are JSON null":         {Settings{}, headers(ownTable, `null`), "no JSON object"},
		"loose headers are no JSON":     {Settings{}, headers(loose, `{"a": "b"} x`), "not JSON"},
		"loose headers are empty":       {Settings{}, headers(loose, ``), "not JSON"},
		"loose headers are an array":    {Settings{}, headers(loose, `[{"a": "b"}]`), "no JSON object"},
		"partition is negative":         {byShard, shard("-1"), "no partition number"},
		"partition is too large":        {byShard, shard("2147483648"), "no partition number"},
		"bytea in escape format":        {Settings{}, event(byteaTable, "id-1", "order", "42", "X", `a\000b`), "hex"},
		"bytea cut short":               {Settings{}, event(byteaTable, "id-1", "order", "42", "X", `\x0`), "hex"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newTestRouter(t, c.settings).whole(c.event, commitTime)
			var u *Unroutable
			if !errors.As(err, &u) {
				t.Fatalf("routed to %#v, error %v", got, err)
			}
			if !strings.Contains(u.Reason, c.reason) {
				t.Errorf("reason %q does not say %q", u.Reason, c.reason)
			}
		})
	}
}

// A table or settings that cannot work are no event's fault: the error is none that a policy may skip over.
func TestUnfitTablesAndSettingsAreNoPoison(t *testing.T) {
	for name, c := range map[string]struct {
		settings Settings
		rel      *decoder.Relation
		says     string
	}{
		"no payload":                {Settings{}, table("t", "id", oidText, "aggregate_type", oidText), "no payload column"},
		"payload of a wrong type":   {Settings{}, table("t", "payload", oidInt4, "event_type", oidText), "type OID 23"},
		"headers of a wrong type":   {Settings{}, table("t", "payload", oidText, "event_type", oidText, "headers", oidBytea), "jsonb, json or text"},
		"no column for the topic":   {Settings{}, table("t", "payload", oidText), "${event_type}"},
		"no column for a template":  {Settings{Key: "${nobody}"}, ownTable, "${nobody}"},
		"no column for a role":      {Settings{Columns: map[string]string{"payload": "body"}}, ownTable, `"body"`},
		"no column for a header":    {Settings{Headers: []string{"tenant"}}, ownTable, `"tenant"`},
		"partition is not a number": {Settings{Columns: map[string]string{"partition": "event_type"}}, ownTable, "an integer"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newTestRouter(t, c.settings).whole(event(c.rel), commitTime)
			var u *Unroutable
			if err == nil || errors.As(err, &u) {
				t.Fatalf("error %v", err)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "public.") {
				t.Errorf("%q does not name the table and say %q", err, c.says)
			}
		})
	}
	for name, settings := range map[string]Settings{
		"open template":      {Topic: "a.${b"},
		"empty reference":    {Key: "${}"},
		"unknown role":       {Columns: map[string]string{"colour": "x"}},
		"empty alias":        {Headers: []string{"x:"}},
		"an alias like ours": {Headers: []string{"x:outrider-position"}},
	} {
		if _, err := New("orders", settings, zerolog.Nop()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A broker ages its memory of a producer by the records' stamps, so an old one would let a repeated batch in.
func TestStampsAreNeverOldAndTheTruthIsKept(t *testing.T) {
	r := newTestRouter(t, Settings{})
	for name, c := range map[string]struct {
		age       time.Duration
		stamp     time.Duration // after the commit
		restamped bool
	}{
		"just committed":     {0, 0, false},
		"an hour old":        {time.Hour, 0, false},
		"more than an hour":  {time.Hour + time.Millisecond, time.Hour + time.Millisecond, true},
		"two days":           {48 * time.Hour, 48 * time.Hour, true},
		"from the future":    {-time.Minute, -time.Minute, false},
		"from far in future": {-48 * time.Hour, -48 * time.Hour, false},
	} {
		got, err := r.whole(event(ownTable, "1", "order", "42", "X", "{}", `{"h": "1"}`), commitTime.Add(c.age))
		if err != nil {
			t.Fatal(err)
		}
		if want := commitTime.Add(c.stamp).UnixMilli(); got.timestamp != want {
			t.Errorf("%s: stamped %d ms from the commit, not %s", name, got.timestamp-commitTime.UnixMilli(), c.stamp)
		}
		want := []string{"id=1", "event_type=X", "h=1"}
		if c.restamped {
			want = append(want, "outrider-commit-time=2026-03-01T12:00:00.123456Z")
		}
		if want = append(want, position); !slices.Equal(got.headers, want) {
			t.Errorf("%s: headers %q, not %q", name, got.headers, want)
		}
	}
}

func TestAlteredTableIsResolvedAnew(t *testing.T) {
	r := newTestRouter(t, Settings{})
	before := table("t", "id", oidText, "event_type", oidText, "payload", oidText)
	after := table("t", "payload", oidText, "id", oidText, "event_type", oidText, "aggregate_id", oidText)
	other := table("u", "event_type", oidText, "payload", oidText)
	other.ID++
	for range 2 { // and back: a relation message may come again at any time
		for _, c := range []struct {
			event *decoder.Event
			want  string
		}{
			{event(before, "1", "topic-a", "one"), "topic-a <null> one"},
			{event(other, "topic-b", "two"), "topic-b <null> two"},
			{event(after, "three", "1", "topic-c", "key"), "topic-c key three"},
		} {
			got, err := r.whole(c.event, commitTime)
			if err != nil {
				t.Fatal(err)
			}
			if s := got.topic + " " + got.key + " " + got.value; s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		}
	}
	if ids := slices.Collect(maps.Keys(r.plans)); len(ids) > 2 {
		t.Errorf("%d plans are kept for two tables", len(ids))
	}
}
