package sink

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/buger/jsonparser"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/record"
)

// router turns events into records: topic, key, value, headers, partition, timestamp. It is used by one goroutine.
type router struct {
	name         string // first part of the position header
	topic, key   template
	keyDefault   bool
	topicDefault bool
	routing      Routing
	headers      []headerColumn // configured ones, not yet bound
	maxAge       time.Duration
	stats        *Stats

	plans    map[*decoder.Relation]*plan // a new Relation message is a new pointer, and a new plan
	last     *plan
	messages *messages

	// route's result; valid until the next call. Its bytes lie in the event or in scratch.
	rec       record.Record
	topicName []byte
	partition int32 // -1: by the key
	scratch   []byte

	collect func(key, value []byte, kind jsonparser.ValueType, offset int) error // r.header, bound once: no closure per row
}

// headerColumn is a configured "column:alias".
type headerColumn struct{ column, alias string }

// unroutable is why an event cannot become a record; policy decides about it. It never holds a payload.
type unroutable struct{ reason string }

func (u *unroutable) Error() string { return u.reason }

// Header names that every record may carry.
var (
	headerID         = []byte("id")
	headerEventType  = []byte("event_type")
	headerCommitTime = []byte("outrider-commit-time")
	headerPosition   = []byte("outrider-position")
	ownHeaderPrefix  = []byte("outrider-")
)

// tracing columns are passed on under their own names (W3C Trace Context).
var tracingColumns = []string{"traceparent", "tracestate"}

func newRouter(cfg *Config) (*router, error) {
	r := &router{
		name: cfg.Name, routing: cfg.Routing, maxAge: cfg.MaxTimestampAge, stats: cfg.Stats,
		keyDefault: cfg.Routing.Key == "", topicDefault: cfg.Routing.Topic == "",
		plans: make(map[*decoder.Relation]*plan), messages: newMessages(cfg.Routing.Columns),
	}
	var err error
	if r.topic, err = parseTemplate(cfg.Routing.Topic); err != nil {
		return nil, fmt.Errorf("outbox.topic: %w", err)
	}
	if r.key, err = parseTemplate(cfg.Routing.Key); err != nil {
		return nil, fmt.Errorf("outbox.key: %w", err)
	}
	for role := range cfg.Routing.Columns {
		if _, known := columnNames[role]; !known {
			return nil, fmt.Errorf("outbox.columns: %q is not a role", role)
		}
	}
	for _, h := range cfg.Routing.Headers {
		column, alias, aliased := strings.Cut(h, ":")
		if !aliased {
			alias = column
		}
		if column == "" || alias == "" || strings.HasPrefix(alias, string(ownHeaderPrefix)) {
			return nil, fmt.Errorf("outbox.headers: %q is not column or column:alias (an alias may not begin with %s)", h, ownHeaderPrefix)
		}
		r.headers = append(r.headers, headerColumn{column, alias})
	}
	r.collect = r.header
	return r, nil
}

// route fills r.rec, r.topicName and r.partition from e. now is the present, asked once a block.
// An *unroutable error is the event's own fault; any other one is the table's or the settings'.
func (r *router) route(e *decoder.Event, now time.Time) error {
	e, p, err := r.row(e)
	if err != nil {
		return err
	}
	r.scratch = r.scratch[:0]
	if err := r.address(p, e.Values); err != nil {
		return err
	}
	if err := r.value(p, e.Values); err != nil {
		return err
	}
	restamped := r.stamp(e.CommitTime, now)
	return r.allHeaders(p, e, restamped)
}

// eventID is the id that the event's record carries; nil when it has none.
func (r *router) eventID(e *decoder.Event) ([]byte, error) {
	e, p, err := r.row(e)
	if u := (*unroutable)(nil); errors.As(err, &u) {
		err = nil // what cannot be read may have an id all the same
	}
	if err != nil || p.id < 0 || e.Values[p.id].Format == decoder.Null {
		return nil, err
	}
	return e.Values[p.id].Data, nil
}

// take expands t into scratch.
func (r *router) take(t boundTemplate, values []decoder.Value) (_ []byte, null string, ok bool) {
	from := len(r.scratch)
	r.scratch, null, ok = t.expand(r.scratch, values)
	return r.scratch[from:len(r.scratch):len(r.scratch)], null, ok
}

// address sets topic, key and partition.
func (r *router) address(p *plan, values []decoder.Value) error {
	topic, null, ok := r.take(p.topic, values)
	if !ok {
		return &unroutable{fmt.Sprintf("%s is NULL, and the topic is made from it", null)}
	}
	r.topicName = topic
	r.rec.Key = nil
	if p.hasKey {
		key, null, ok := r.take(p.key, values)
		if !ok {
			return &unroutable{fmt.Sprintf("%s is NULL, and the key is made from it", null)}
		}
		r.rec.Key = key
	}
	r.partition = -1
	if p.partition >= 0 {
		if v := &values[p.partition]; v.Format != decoder.Null {
			n, err := strconv.ParseInt(string(v.Data), 10, 32)
			if err != nil || n < 0 {
				return &unroutable{"the partition column holds no partition number"}
			}
			r.partition = int32(n)
		}
	}
	return nil
}

// value sets the record's value: the payload byte for byte as Postgres prints it, or a bytea's bytes.
func (r *router) value(p *plan, values []decoder.Value) error {
	v := &values[p.payload]
	switch {
	case v.Format == decoder.Null:
		if r.routing.NullPayloadIsPoison {
			return &unroutable{"the payload is NULL (outbox.tombstone_on_null is false)"}
		}
		r.rec.Value = nil
	case p.bytea && v.Format == decoder.Text:
		digits, ok := bytes.CutPrefix(v.Data, []byte(`\x`))
		if !ok {
			return &unroutable{"the bytea payload is not in hex format"}
		}
		from := len(r.scratch)
		r.scratch = slices.Grow(r.scratch, len(digits)/2)[:from+len(digits)/2]
		if _, err := hex.Decode(r.scratch[from:], digits); err != nil {
			return &unroutable{"the bytea payload is not in hex format"}
		}
		r.rec.Value = r.scratch[from:len(r.scratch):len(r.scratch)]
	default:
		r.rec.Value = v.Data[:len(v.Data):len(v.Data)]
	}
	return nil
}

// stamp sets the timestamp and says whether it is not the commit time: a broker ages its memory of a producer by the
// batches' own timestamps, so an old stamp would let a repeated batch in.
func (r *router) stamp(commit, now time.Time) (restamped bool) {
	age := now.Sub(commit)
	if age > r.maxAge {
		r.rec.Timestamp = now.UnixMilli()
		return true
	}
	if age < 0 {
		commit = now
	}
	r.rec.Timestamp = commit.UnixMilli()
	return false
}

// allHeaders sets the headers: id, event_type, tracing and configured columns, the row's own object, and ours at the end.
func (r *router) allHeaders(p *plan, e *decoder.Event, restamped bool) error {
	r.rec.Headers = r.rec.Headers[:0]
	for i := range p.placed {
		if v := &e.Values[p.placed[i].column]; v.Format != decoder.Null {
			r.rec.Headers = append(r.rec.Headers, record.Header{Key: p.placed[i].name, Value: v.Data})
		}
	}
	if p.headers >= 0 {
		if err := r.rowHeaders(&e.Values[p.headers], p.looseJSON); err != nil {
			return err
		}
	}
	if restamped {
		from := len(r.scratch)
		r.scratch = e.CommitTime.UTC().AppendFormat(r.scratch, time.RFC3339Nano)
		r.rec.Headers = append(r.rec.Headers, record.Header{Key: headerCommitTime, Value: r.scratch[from:len(r.scratch):len(r.scratch)]})
	}
	if !r.routing.OmitPosition {
		from := len(r.scratch)
		r.scratch = append(r.scratch, r.name...)
		r.scratch = append(r.scratch, ':')
		r.scratch = e.Position.Append(r.scratch)
		r.rec.Headers = append(r.rec.Headers, record.Header{Key: headerPosition, Value: r.scratch[from:len(r.scratch):len(r.scratch)]})
	}
	return nil
}

// rowHeaders adds the members of the row's headers object. A string becomes its text, null a null value, anything else its JSON.
func (r *router) rowHeaders(v *decoder.Value, loose bool) error {
	if v.Format == decoder.Null || string(v.Data) == "{}" {
		return nil
	}
	if loose && !json.Valid(v.Data) {
		return &unroutable{"the headers are not JSON"}
	}
	if err := jsonparser.ObjectEach(v.Data, r.collect); err != nil {
		return &unroutable{"the headers are no JSON object"}
	}
	return nil
}

// header takes one member of the headers object.
func (r *router) header(key, value []byte, kind jsonparser.ValueType, _ int) error {
	if bytes.HasPrefix(key, ownHeaderPrefix) {
		r.stats.HeadersDropped.Inc()
		return nil
	}
	// key may lie in jsonparser's own buffer, and a string still has its escapes.
	from := len(r.scratch)
	r.scratch = append(r.scratch, key...)
	key = r.scratch[from:len(r.scratch):len(r.scratch)]
	switch kind {
	case jsonparser.Null:
		value = nil
	case jsonparser.String:
		if bytes.IndexByte(value, '\\') >= 0 {
			from := len(r.scratch)
			r.scratch = slices.Grow(r.scratch, len(value))
			text, err := jsonparser.Unescape(value, r.scratch[from:from+len(value)])
			if err != nil {
				return err
			}
			value = text
			r.scratch = r.scratch[:from+len(value)]
		}
	}
	r.rec.Headers = append(r.rec.Headers, record.Header{Key: key, Value: value})
	return nil
}

// checkTopic says why a topic may not be written, or nil. Kafka's own rule: 1 to 249 of [a-zA-Z0-9._-], neither "." nor "..".
func (r *router) checkTopic(name []byte) error {
	switch {
	case len(name) == 0 || len(name) > 249:
		return &unroutable{fmt.Sprintf("the topic has %d characters; Kafka takes 1 to 249", len(name))}
	case string(name) == "." || string(name) == "..":
		return &unroutable{fmt.Sprintf("%q is not a topic", name)}
	case bytes.HasPrefix(name, []byte("__")):
		return &unroutable{fmt.Sprintf("topic %q is internal to Kafka", name)}
	}
	for _, c := range name {
		if c != '.' && c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return &unroutable{fmt.Sprintf("topic %q has a character outside [a-zA-Z0-9._-]", name)}
		}
	}
	if allowed := r.routing.AllowedTopics; len(allowed) > 0 && !slices.ContainsFunc(allowed, func(a string) bool {
		prefix, isPrefix := strings.CutSuffix(a, "*")
		return string(name) == a || isPrefix && bytes.HasPrefix(name, []byte(prefix))
	}) {
		return &unroutable{fmt.Sprintf("topic %q is not in outbox.allowed_topics", name)}
	}
	return nil
}
