package route

import (
	"fmt"

	"github.com/outrider-relay/outrider/decoder"
)

// maker makes the value of a row's record; nil is a tombstone. What it gives is valid until the next row.
type maker func(values []decoder.Value) ([]byte, error)

// partOf gives a column as a part of a record.
func (r *Router) partOf(c columns, column int) (*columnPart, error) {
	col := &c.relation.Columns[column]
	typ, known := connectTypeOf(col, r.settings.Debezium)
	if !known {
		return nil, fmt.Errorf("column %q of table %s has type OID %d, and what Debezium's converters make of that is not known: it cannot be placed with outbox.compat: debezium",
			col.Name, c.relation, col.Type)
	}
	return &columnPart{column: column, name: col.Name, typ: typ, optional: !col.NotNull}, nil
}

// bindValue chooses how the values of a table's records are made.
func (r *Router) bindValue(p *plan, c columns) error {
	payload, err := r.partOf(c, p.payload)
	if err != nil {
		return err
	}
	var whole part = payload
	format := r.parsed.value
	if r.settings.ExpandJSON {
		whole = &expandedPart{columnPart: *payload, checked: isJSON(c, p.payload), withSchema: format == JSONWithSchema}
	}
	if len(r.parsed.envelope) > 0 {
		if whole, err = r.envelopeOf(p, c, whole); err != nil {
			return err
		}
		if format == Verbatim && !r.settings.Debezium {
			format = JSON
		}
	}
	build := func(values []decoder.Value) ([]byte, error) {
		if err := whole.load(values); err != nil {
			return nil, err
		}
		return r.write(whole, format), nil
	}
	p.value = r.unlessNull(p, build)
	asSent := whole == part(payload) && (format == Verbatim || format == CloudEventsBinary) && payload.typ.convert == nil
	mayBeBlank := r.settings.Debezium && !r.settings.NoTombstone
	if !asSent || mayBeBlank {
		return nil
	}
	// The common case: the value is what Postgres has sent, where it lies.
	otherwise := p.value
	p.value = func(values []decoder.Value) ([]byte, error) {
		v := &values[p.payload]
		if v.Format == decoder.Null {
			return otherwise(values)
		}
		return v.Data[:len(v.Data):len(v.Data)], nil
	}
	return nil
}

// isJSON says whether Postgres has checked that a column holds JSON.
func isJSON(c columns, column int) bool {
	typ := c.relation.Columns[column].Type
	return typ == oidJSON || typ == oidJSONB
}

// unlessNull decides about a payload that is NULL.
func (r *Router) unlessNull(p *plan, build maker) maker {
	tombstone := !r.settings.NoTombstone
	switch {
	case r.settings.Debezium && tombstone:
		blankable := !p.bytea // Debezium never takes bytes for blank
		return func(values []decoder.Value) ([]byte, error) {
			v := &values[p.payload]
			if v.Format == decoder.Null || blankable && blank(v.Data) {
				return nil, nil
			}
			return build(values)
		}
	case r.settings.Debezium && (r.parsed.value != Verbatim || len(r.parsed.envelope) > 0):
		return build // which knows what a NULL is
	}
	return func(values []decoder.Value) ([]byte, error) {
		if values[p.payload].Format != decoder.Null {
			return build(values)
		}
		if tombstone || r.settings.Debezium {
			return nil, nil
		}
		return nil, &Unroutable{"the payload is NULL (outbox.tombstone_on_null is false)"}
	}
}

// blank says whether Java's trim leaves nothing of a text.
func blank(text []byte) bool {
	for _, c := range text {
		if c > ' ' {
			return false
		}
	}
	return true
}
