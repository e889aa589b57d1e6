package route

import (
	"encoding/json"
	"errors"

	"github.com/buger/jsonparser"

	"github.com/outrider-relay/outrider/decoder"
)

// expandedPart is a column of JSON written anew as Debezium's option table.expand.json.payload does it: a schema is inferred
// from the value, members that are null and arrays that are empty are left out, and numbers become those of Java.
//
// What has no schema stays the text that it was, as there. Where Debezium infers a schema that the value does not obey, its
// converter stops the connector; here the value passes as Postgres prints it.
type expandedPart struct {
	columnPart
	checked    bool // Postgres has seen that it is JSON
	withSchema bool // a converter that reads schemas gets it

	tree   *jsonValue
	schema *jsonSchema // nil: not expanded
	passes bool        // as Postgres prints it
}

func (p *expandedPart) load(values []decoder.Value) error {
	p.tree, p.schema, p.passes = nil, nil, false
	if err := p.columnPart.load(values); err != nil || p.missing || len(p.text) == 0 || p.text[0] != '{' && p.text[0] != '[' {
		return err
	}
	if !p.checked && !json.Valid(p.text) {
		return nil
	}
	tree, err := parseJSON(p.text, jsonKind(p.text[0]), 0)
	if err != nil {
		return nil
	}
	schema, err := infer("payload", tree)
	switch {
	case errors.Is(err, errConflict):
		p.passes = true
	case err != nil || schema == nil:
	case tree.kind != jsonparser.Object || !obeys(tree, schema):
		p.passes = true
	default:
		p.tree, p.schema = tree, schema
	}
	return nil
}

func (p *expandedPart) appendText(b []byte) []byte {
	if p.schema == nil {
		return p.columnPart.appendText(b)
	}
	return p.tree.appendText(b, p.schema)
}

func (p *expandedPart) appendJSON(b []byte) []byte {
	switch {
	case p.schema != nil:
		return p.tree.appendJSON(b, p.schema)
	case p.passes && !p.withSchema:
		return append(b, p.text...)
	}
	return p.columnPart.appendJSON(b)
}

func (p *expandedPart) appendSchema(b []byte, field string) []byte {
	if p.schema == nil {
		return p.columnPart.appendSchema(b, field)
	}
	return p.schema.append(b, field)
}
