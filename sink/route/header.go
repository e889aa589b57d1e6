package route

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/buger/jsonparser"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/record"
)

// Headers by which an event is found again in Kafka.
const (
	HeaderID       = "id"                // the first one of that name; read it with PlainID
	HeaderPosition = "outrider-position" // the last one: the relay's name, a colon, and the position
)

// Header names that every record may carry.
var (
	headerID         = []byte(HeaderID)
	headerEventType  = []byte("event_type")
	headerCommitTime = []byte("outrider-commit-time")
	headerTimestamp  = []byte("outrider-timestamp")
	headerPosition   = []byte(HeaderPosition)
	ownHeaderPrefix  = []byte("outrider-")
)

// Headers of W3C Trace Context. Columns of these names are passed on as they are.
var tracingHeaders = []string{"traceparent", "tracestate"}

// tracingColumn holds both, as Quarkus' outbox extension writes them.
const tracingColumn = "tracingspancontext"

// placedHeader is a header made from a column, or one that every record has alike.
type placedHeader struct {
	name   []byte
	column int    // where part is nil: its bytes as Postgres prints them
	part   part   // nil for most
	format Format // of part
	bare   bool   // no header at all where there is nothing, rather than a null one
}

// place lists the headers that come from columns, in their order.
func (r *Router) place(p *plan, c columns) error {
	debezium := r.settings.Debezium
	if debezium {
		p.placed = append(p.placed, r.parsed.context...)
		r.placeTracing(p, c)
		if p.id < 0 {
			return fmt.Errorf("table %s has no id column, and Debezium's router needs one (it has %s)", c.relation, c.list())
		}
	}
	if err := r.placeColumn(p, c, headerID, p.id); err != nil {
		return err
	}
	if !debezium {
		if err := r.placeColumn(p, c, headerEventType, p.eventType); err != nil {
			return err
		}
		r.placeTracing(p, c)
	}
	for _, h := range r.parsed.headers {
		column := c.find(h.column)
		if column < 0 {
			return fmt.Errorf("table %s has no column %q, which outbox.headers names (it has %s)", c.relation, h.column, c.list())
		}
		if err := r.placeColumn(p, c, []byte(h.alias), column); err != nil {
			return err
		}
	}
	if r.settings.Value == CloudEventsBinary {
		return r.placeCloudEvent(p, c)
	}
	return nil
}

// placeColumn adds the header of a column; none for -1.
func (r *Router) placeColumn(p *plan, c columns, name []byte, column int) error {
	if column < 0 {
		return nil
	}
	h := placedHeader{name: name, column: column, format: r.parsed.headerFormat, bare: !r.settings.Debezium}
	part, err := r.partOf(c, column)
	if err != nil {
		return err
	}
	if h.format != Verbatim || r.settings.Debezium && part.typ.convert != nil {
		h.part = part
	}
	p.placed = append(p.placed, h)
	return nil
}

// placeTracing adds the trace context of the row: from columns that hold a header each, else from the one that holds both.
func (r *Router) placeTracing(p *plan, c columns) {
	both := c.index(tracingColumn)
	for _, name := range tracingHeaders {
		column := c.index(name)
		switch {
		case column >= 0 && !r.settings.Debezium:
			p.placed = append(p.placed, placedHeader{name: []byte(name), column: column, bare: true})
		case column < 0 && both >= 0:
			p.placed = append(p.placed, placedHeader{name: []byte(name), part: &propertyPart{column: both, key: name}, format: Verbatim, bare: true})
		}
	}
}

// allHeaders sets the headers: those that are placed, the row's own object, and ours at the end.
func (r *Router) allHeaders(p *plan, e *decoder.Event) error {
	r.routed.Record.Headers = r.routed.Record.Headers[:0]
	for i := range p.placed {
		h := &p.placed[i]
		if h.part != nil {
			if err := r.partHeader(h, e.Values); err != nil {
				return err
			}
		} else if v := &e.Values[h.column]; v.Format != decoder.Null {
			r.routed.Record.Headers = append(r.routed.Record.Headers, record.Header{Key: h.name, Value: v.Data})
		} else if !h.bare {
			r.routed.Record.Headers = append(r.routed.Record.Headers, record.Header{Key: h.name})
		}
	}
	if r.settings.Value == CloudEventsBinary {
		if err := r.cloudEvent(p, e); err != nil {
			return err
		}
	}
	if p.headers >= 0 {
		if err := r.rowHeaders(&e.Values[p.headers], p.looseJSON); err != nil {
			return err
		}
	}
	if !r.late.IsZero() {
		from := len(r.scratch)
		r.scratch = r.late.UTC().AppendFormat(r.scratch, time.RFC3339Nano)
		r.routed.Record.Headers = append(r.routed.Record.Headers, record.Header{Key: r.lateHeader, Value: r.scratch[from:len(r.scratch):len(r.scratch)]})
	}
	if !r.settings.OmitPosition {
		from := len(r.scratch)
		r.scratch = append(r.scratch, r.name...)
		r.scratch = append(r.scratch, ':')
		r.scratch = e.Position.Append(r.scratch)
		r.routed.Record.Headers = append(r.routed.Record.Headers, record.Header{Key: headerPosition, Value: r.scratch[from:len(r.scratch):len(r.scratch)]})
	}
	return nil
}

// partHeader adds a header that has to be written.
func (r *Router) partHeader(h *placedHeader, values []decoder.Value) error {
	if err := h.part.load(values); err != nil {
		return err
	}
	if h.bare && h.part.null() {
		return nil
	}
	r.routed.Record.Headers = append(r.routed.Record.Headers, record.Header{Key: h.name, Value: r.write(h.part, h.format)})
	return nil
}

// rowHeaders adds the members of the row's headers object.
func (r *Router) rowHeaders(v *decoder.Value, loose bool) error {
	if v.Format == decoder.Null || string(v.Data) == "{}" {
		return nil
	}
	if loose && !json.Valid(v.Data) {
		return &Unroutable{"the headers are not JSON"}
	}
	if err := jsonparser.ObjectEach(v.Data, r.collect); err != nil {
		return &Unroutable{"the headers are no JSON object"}
	}
	return nil
}

// member takes one member of the headers object. A string becomes its text, null a null value, anything else its JSON.
func (r *Router) member(key, value []byte, kind jsonparser.ValueType, _ int) error {
	if bytes.HasPrefix(key, ownHeaderPrefix) || r.settings.Value == CloudEventsBinary && isCloudEventAttribute(key) {
		if r.HeadersDropped != nil {
			r.HeadersDropped.Inc()
		}
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
	if f := r.parsed.headerFormat; f != Verbatim && value != nil {
		from := len(r.scratch)
		if f == JSON && kind != jsonparser.String {
			r.scratch = append(r.scratch, value...)
			value = r.scratch[from:len(r.scratch):len(r.scratch)]
		} else {
			value = r.write(constant(value), f)
		}
	}
	r.routed.Record.Headers = append(r.routed.Record.Headers, record.Header{Key: key, Value: value})
	return nil
}
