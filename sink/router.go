package sink

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/buger/jsonparser"
	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/record"
)

// router turns events into records: topic, key, value, headers, partition, timestamp. It is used by one goroutine.
//
// What can be decided about a table is decided once, in its plan; what is left for a row is to copy bytes.
type router struct {
	name    string // first part of the position header
	routing Routing
	set     settings
	maxAge  time.Duration
	stats   *Stats
	log     zerolog.Logger

	plans    map[*decoder.Relation]*plan // a new Relation message is a new pointer, and a new plan
	last     *plan
	messages *messages

	// route's result; valid until the next call. Its bytes lie in the event or in scratch.
	rec       record.Record
	topicName []byte
	partition int32 // -1: by the key
	scratch   []byte

	at         time.Time                                                            // the event's own time
	late       time.Time                                                            // the same where the record could not be stamped with it, else zero
	lateHeader []byte                                                               // tells it
	collect    func(key, value []byte, kind jsonparser.ValueType, offset int) error // r.member, bound once: no closure per row
}

// unroutable is why an event cannot become a record; policy decides about it. It never holds a payload.
type unroutable struct{ reason string }

func (u *unroutable) Error() string { return u.reason }

func newRouter(cfg *Config) (*router, error) {
	set, err := readRouting(&cfg.Routing, cfg.Name)
	if err != nil {
		return nil, err
	}
	r := &router{
		name: cfg.Name, routing: cfg.Routing, set: set, maxAge: cfg.MaxTimestampAge, stats: cfg.Stats, log: cfg.Log,
		plans: make(map[*decoder.Relation]*plan), messages: newMessages(cfg.Routing.Columns),
	}
	r.collect = r.member
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
	if r.rec.Value, err = p.value(e.Values); err != nil {
		return err
	}
	if err := r.stamp(p, e, now); err != nil {
		return err
	}
	return r.allHeaders(p, e)
}

// salvage makes as much of a record as can be had of an event that could not be routed: a payload that could not be
// converted goes as Postgres prints it, headers that could not be read are left out.
func (r *router) salvage(e *decoder.Event, now time.Time) {
	e, p, _ := r.row(e) // it could be planned, or it were no poison; of a message that cannot be read the payload is all
	r.scratch = r.scratch[:0]
	r.topicName, r.rec.Key, r.partition = nil, nil, -1
	_ = r.address(p, e.Values) // sets what it gets to
	var err error
	if r.rec.Value, err = p.value(e.Values); err != nil {
		r.rec.Value = e.Values[p.payload].Data
	}
	_ = r.stamp(p, e, now)
	_ = r.allHeaders(p, e)
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
	return plainID(e.Values[p.id].Data), nil
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
	if r.set.regex != nil {
		from := len(r.scratch)
		r.scratch = r.set.regex.appendReplaced(r.scratch, topic)
		topic = r.scratch[from:len(r.scratch):len(r.scratch)]
	}
	r.topicName = topic
	if err := r.key(p, values); err != nil {
		return err
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

// key sets the record's key. A NULL in it is the row's fault: without a key the row would lose its order. Debezium's router
// lets such a row pass.
func (r *router) key(p *plan, values []decoder.Value) error {
	r.rec.Key = nil
	switch {
	case p.keyPart != nil:
		if err := p.keyPart.load(values); err != nil {
			return err
		}
		if p.keyPart.null() && !r.routing.Debezium {
			return &unroutable{fmt.Sprintf("%s is NULL, and the key is made from it", p.keyColumn)}
		}
		r.rec.Key = r.write(p.keyPart, r.set.keyFormat)
	case p.key != nil:
		key, null, ok := r.take(p.key, values)
		switch {
		case ok:
			r.rec.Key = key
		case !r.routing.Debezium:
			return &unroutable{fmt.Sprintf("%s is NULL, and the key is made from it", null)}
		}
	}
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
