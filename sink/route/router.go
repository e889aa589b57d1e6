// Package route turns an outbox event into a Kafka record. A row walks through it like this:
//
//	New                   the settings, before any row: settings.go
//	Router.planFor        what the columns of its table mean, once a table
//	Router.address        topic, key and partition: template.go, regex.go, part.go
//	plan.value            payload, envelope, tombstone: value.go, in the formats of part.go
//	Router.stamp          the record's timestamp
//	Router.allHeaders     the columns' headers, the row's own, and the relay's
//
// What can be decided about a table is decided once, in its plan; what is left for a row is to copy bytes. A logical
// message is read as a row first: message.go.
package route

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/buger/jsonparser"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/record"
)

// Router turns events into records. It is used by one goroutine.
type Router struct {
	// MaxTimestampAge is the age at which a record is stamped with the present instead of the event's own time. It may be
	// changed between two events. Zero: at once.
	MaxTimestampAge time.Duration
	// HeadersDropped counts headers of rows that were left out because their names are the relay's. nil: nobody counts.
	HeadersDropped prometheus.Counter

	name     string // first part of the position header
	settings Settings
	parsed   parsed
	log      zerolog.Logger

	plans    map[*decoder.Relation]*plan // a new Relation message is a new pointer, and a new plan
	last     *plan
	messages *messages

	routed  Routed
	scratch []byte // of what does not lie in the event

	at         time.Time                                                            // the event's own time
	late       time.Time                                                            // the same where the record could not be stamped with it, else zero
	lateHeader []byte                                                               // tells it
	collect    func(key, value []byte, kind jsonparser.ValueType, offset int) error // r.member, bound once: no closure per row
}

// Routed is the record of an event, and where it goes. It is the router's own, and valid until its next call: its bytes
// lie in the event or in the router's memory.
type Routed struct {
	Record    record.Record
	Topic     []byte // as the settings make it of the row; CheckTopic says whether it may be one
	Partition int32  // -1: by the key
}

// Unroutable is why an event cannot become a record; policy decides about it. It never holds a payload.
type Unroutable struct{ Reason string }

func (u *Unroutable) Error() string { return u.Reason }

// New reads the settings of the relay called name. What is wrong with them is told by SettingErrors, all of them in one error.
func New(name string, settings Settings, log zerolog.Logger) (*Router, error) {
	p, err := parse(&settings, name)
	if err != nil {
		return nil, err
	}
	r := &Router{
		name: name, settings: settings, parsed: p, log: log,
		plans: make(map[*decoder.Relation]*plan), messages: newMessages(settings.Columns),
	}
	r.collect = r.member
	return r, nil
}

// Route makes the record of e. now is the present, asked once a block.
// An *Unroutable error is the event's own fault; any other one is the table's or the settings'.
func (r *Router) Route(e *decoder.Event, now time.Time) (*Routed, error) {
	e, p, err := r.row(e)
	if err != nil {
		return nil, err
	}
	r.scratch = r.scratch[:0]
	if err := r.address(p, e.Values); err != nil {
		return nil, err
	}
	if r.routed.Record.Value, err = p.value(e.Values); err != nil {
		return nil, err
	}
	if err := r.stamp(p, e, now); err != nil {
		return nil, err
	}
	return &r.routed, r.allHeaders(p, e)
}

// Salvage makes as much of a record as can be had of an event that is Unroutable: a payload that could not be converted goes as
// Postgres prints it, headers that could not be read are left out.
func (r *Router) Salvage(e *decoder.Event, now time.Time) *Routed {
	e, p, _ := r.row(e) // it could be planned, or it were no poison; of a message that cannot be read the payload is all
	r.scratch = r.scratch[:0]
	r.routed.Topic, r.routed.Record.Key, r.routed.Partition = nil, nil, -1
	_ = r.address(p, e.Values) // sets what it gets to
	var err error
	if r.routed.Record.Value, err = p.value(e.Values); err != nil {
		r.routed.Record.Value = e.Values[p.payload].Data
	}
	_ = r.stamp(p, e, now)
	_ = r.allHeaders(p, e)
	return &r.routed
}

// take expands t into scratch.
func (r *Router) take(t boundTemplate, values []decoder.Value) (_ []byte, null string, ok bool) {
	from := len(r.scratch)
	r.scratch, null, ok = t.expand(r.scratch, values)
	return r.scratch[from:len(r.scratch):len(r.scratch)], null, ok
}

// address sets topic, key and partition.
func (r *Router) address(p *plan, values []decoder.Value) error {
	topic, null, ok := r.take(p.topic, values)
	if !ok {
		return &Unroutable{fmt.Sprintf("%s is NULL, and the topic is made from it", null)}
	}
	if r.parsed.regex != nil {
		from := len(r.scratch)
		r.scratch = r.parsed.regex.appendReplaced(r.scratch, topic)
		topic = r.scratch[from:len(r.scratch):len(r.scratch)]
	}
	r.routed.Topic = topic
	if err := r.key(p, values); err != nil {
		return err
	}
	r.routed.Partition = -1
	if p.partition >= 0 {
		if v := &values[p.partition]; v.Format != decoder.Null {
			n, err := strconv.ParseInt(string(v.Data), 10, 32)
			if err != nil || n < 0 {
				return &Unroutable{"the partition column holds no partition number"}
			}
			r.routed.Partition = int32(n)
		}
	}
	return nil
}

// key sets the record's key. A NULL in it is the row's fault: without a key the row would lose its order. Debezium's router
// lets such a row pass.
func (r *Router) key(p *plan, values []decoder.Value) error {
	r.routed.Record.Key = nil
	switch {
	case p.keyPart != nil:
		if err := p.keyPart.load(values); err != nil {
			return err
		}
		if p.keyPart.null() && !r.settings.Debezium {
			return &Unroutable{fmt.Sprintf("%s is NULL, and the key is made from it", p.keyColumn)}
		}
		r.routed.Record.Key = r.write(p.keyPart, r.parsed.keyFormat)
	case p.key != nil:
		key, null, ok := r.take(p.key, values)
		switch {
		case ok:
			r.routed.Record.Key = key
		case !r.settings.Debezium:
			return &Unroutable{fmt.Sprintf("%s is NULL, and the key is made from it", null)}
		}
	}
	return nil
}

// CheckTopic says why a topic may not be written, or nil. Kafka's own rule: 1 to 249 of [a-zA-Z0-9._-], neither "." nor "..".
func (r *Router) CheckTopic(name []byte) error {
	switch {
	case len(name) == 0 || len(name) > 249:
		return &Unroutable{fmt.Sprintf("the topic has %d characters; Kafka takes 1 to 249", len(name))}
	case string(name) == "." || string(name) == "..":
		return &Unroutable{fmt.Sprintf("%q is not a topic", name)}
	case bytes.HasPrefix(name, []byte("__")):
		return &Unroutable{fmt.Sprintf("topic %q is internal to Kafka", name)}
	}
	for _, c := range name {
		if c != '.' && c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return &Unroutable{fmt.Sprintf("topic %q has a character outside [a-zA-Z0-9._-]", name)}
		}
	}
	if allowed := r.settings.AllowedTopics; len(allowed) > 0 && !slices.ContainsFunc(allowed, func(a string) bool {
		prefix, isPrefix := strings.CutSuffix(a, "*")
		return string(name) == a || isPrefix && bytes.HasPrefix(name, []byte(prefix))
	}) {
		return &Unroutable{fmt.Sprintf("topic %q is not in outbox.allowed_topics", name)}
	}
	return nil
}
