package route

import (
	"fmt"

	"github.com/outrider-relay/outrider/decoder"
)

// envelopePart is the object of the payload and the columns that outbox.envelope places beside it.
type envelopePart struct {
	fields []envelopeField
	// schema's name is prefix, the text of routed, and ".Value", as in Debezium.
	prefix string
	routed boundTemplate

	name []byte // of the present row
}

type envelopeField struct {
	name string
	part part
}

const payloadField = "payload"

// envelopeOf puts the payload and the placed columns of a table together.
func (r *Router) envelopeOf(p *plan, c columns, payload part) (*envelopePart, error) {
	e := &envelopePart{prefix: r.parsed.logicalName + "." + c.relation.Namespace + "." + c.relation.Name}
	if aggregate, err := c.role("aggregate_type"); err == nil && aggregate >= 0 {
		e.routed = boundTemplate{{text: ".", column: -1}, {text: "aggregate_type", column: aggregate}}
	}
	// Where nobody is to be equalled, and the value is else verbatim, JSON stays JSON within the envelope.
	embed := r.parsed.value == Verbatim && !r.settings.Debezium
	if own, ok := payload.(*columnPart); ok {
		own.embedded = embed && isJSON(c, p.payload)
	}
	e.fields = []envelopeField{{payloadField, payload}}
	for _, placed := range r.parsed.envelope {
		column := c.find(placed.column)
		if column < 0 {
			return nil, fmt.Errorf("table %s has no column %q, which outbox.envelope names (it has %s)", c.relation, placed.column, c.list())
		}
		part, err := r.partOf(c, column)
		if err != nil {
			return nil, err
		}
		part.embedded = embed && isJSON(c, column)
		e.fields = append(e.fields, envelopeField{placed.alias, part})
	}
	return e, nil
}

func (e *envelopePart) load(values []decoder.Value) error {
	for i := range e.fields {
		if err := e.fields[i].part.load(values); err != nil {
			return err
		}
	}
	e.name = append(e.name[:0], e.prefix...)
	e.name, _, _ = e.routed.expand(e.name, values) // a NULL here has no topic
	e.name = append(e.name, ".Value"...)
	return nil
}

func (e *envelopePart) null() bool { return false }

// appendText appends what Java's toString gives for such a struct.
func (e *envelopePart) appendText(b []byte) []byte {
	b = append(b, "Struct{"...)
	first := true
	for i := range e.fields {
		f := &e.fields[i]
		if f.part.null() {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(append(b, f.name...), '=')
		b = f.part.appendText(b)
	}
	return append(b, '}')
}

func (e *envelopePart) appendJSON(b []byte) []byte {
	b = append(b, '{')
	for i := range e.fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, []byte(e.fields[i].name)), ':')
		b = e.fields[i].part.appendJSON(b)
	}
	return append(b, '}')
}

func (e *envelopePart) appendSchema(b []byte, field string) []byte {
	b = append(b, `{"type":"struct","fields":[`...)
	for i := range e.fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = e.fields[i].part.appendSchema(b, e.fields[i].name)
	}
	b = append(b, ']')
	b = appendOptional(b, false)
	b = appendQuoted(append(b, `,"name":`...), e.name)
	return append(appendField(b, field), '}')
}
