package route

import (
	"fmt"
	"time"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/record"
)

// The attributes of a CloudEvent in binary content mode: the value is the event's data, and each attribute is a header.
// (Kafka Protocol Binding for CloudEvents 1.0.2, section 3.2.)
var (
	cloudEventID          = []byte("ce_id")
	cloudEventSource      = []byte("ce_source")
	cloudEventType        = []byte("ce_type")
	cloudEventTime        = []byte("ce_time")
	cloudEventSubject     = []byte("ce_subject")
	cloudEventSpecVersion = placedHeader{name: []byte("ce_specversion"), part: constant("1.0"), format: Verbatim}
)

// contentType is the header that tells what the data is.
const contentType = "content-type"

var headerContentType = []byte(contentType)

// isCloudEventAttribute says whether a header of the row's own would be an attribute that the relay sets.
func isCloudEventAttribute(name []byte) bool {
	switch string(name) {
	case "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", contentType:
		return true
	}
	return false
}

// placeCloudEvent adds the attributes that need no more than a column.
func (r *Router) placeCloudEvent(p *plan, c columns) error {
	if p.eventType < 0 {
		return fmt.Errorf("table %s has no event type, which CloudEvents must have (it has %s): name one in outbox.columns.event_type", c.relation, c.list())
	}
	p.placed = append(p.placed, cloudEventSpecVersion, placedHeader{name: cloudEventType, column: p.eventType, bare: true})
	subject, err := c.role("aggregate_id")
	if err != nil {
		return err
	}
	if subject >= 0 {
		p.placed = append(p.placed, placedHeader{name: cloudEventSubject, column: subject, bare: true})
	}
	if p.source, err = r.parsed.source.bind(c.find); err != nil {
		return fmt.Errorf("table %s: outbox.cloudevents.source: %w (it has %s)", c.relation, err, c.list())
	}
	if !r.parsed.contentTypeIsPlaced {
		p.contentType = []byte("text/plain; charset=utf-8")
		switch {
		case p.bytea:
			p.contentType = []byte("application/octet-stream")
		case isJSON(c, p.payload):
			p.contentType = []byte("application/json")
		}
	}
	return nil
}

// cloudEvent adds the attributes that the columns alone do not give.
func (r *Router) cloudEvent(p *plan, e *decoder.Event) error {
	if v := &e.Values[p.eventType]; len(v.Data) == 0 {
		return &Unroutable{"the event type is NULL or empty, and a CloudEvent must have one"}
	}
	add := func(name, value []byte) {
		r.routed.Record.Headers = append(r.routed.Record.Headers, record.Header{Key: name, Value: value})
	}
	if p.id >= 0 && len(e.Values[p.id].Data) > 0 {
		add(cloudEventID, e.Values[p.id].Data)
	} else {
		from := len(r.scratch)
		r.scratch = e.Position.Append(r.scratch)
		add(cloudEventID, r.scratch[from:len(r.scratch):len(r.scratch)])
	}
	source, null, ok := r.take(p.source, e.Values)
	if !ok || len(source) == 0 {
		return &Unroutable{fmt.Sprintf("%s is NULL or empty, and the source of a CloudEvent is made from it", null)}
	}
	add(cloudEventSource, source)
	from := len(r.scratch)
	r.scratch = r.at.UTC().AppendFormat(r.scratch, time.RFC3339Nano)
	add(cloudEventTime, r.scratch[from:len(r.scratch):len(r.scratch)])
	if p.contentType != nil && r.routed.Record.Value != nil {
		add(headerContentType, p.contentType)
	}
	return nil
}
