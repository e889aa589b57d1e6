package route

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/buger/jsonparser"
)

// jsonSchema is the schema that Debezium infers from a value. All but merged ones are optional.
type jsonSchema struct {
	kind     string
	name     string // of a struct
	required bool
	items    *jsonSchema
	fields   []jsonField
}

type jsonField struct {
	name   string
	schema *jsonSchema
}

var (
	errNoSchema = errors.New("no schema fits all elements of an array")
	// errConflict is a schema that Debezium makes, but that does not fit, or loses members.
	errConflict = errors.New("objects of an array differ in a member")
)

// infer gives the schema of v, nil for what is left out. name is that of a struct.
func infer(name string, v *jsonValue) (*jsonSchema, error) {
	switch v.kind {
	case jsonparser.String:
		return &jsonSchema{kind: "string"}, nil
	case jsonparser.Boolean:
		return &jsonSchema{kind: "boolean"}, nil
	case jsonparser.Number:
		if v.number == "" {
			return &jsonSchema{kind: "double"}, nil // which it does not obey
		}
		return &jsonSchema{kind: v.number}, nil
	case jsonparser.Array:
		if len(v.items) == 0 {
			return nil, nil
		}
		items, err := inferItems(name, v.items)
		return &jsonSchema{kind: "array", items: items}, err
	case jsonparser.Object:
		s := &jsonSchema{kind: "struct", name: name}
		for _, m := range v.members {
			inner := m.name
			if strings.TrimSpace(name) != "" {
				inner = name + "." + m.name
			}
			field, err := infer(inner, m.value)
			if err != nil {
				return nil, err
			}
			if field != nil {
				s.fields = append(s.fields, jsonField{m.name, field})
			}
		}
		return s, nil
	}
	return nil, nil // null
}

// inferItems gives the one schema of an array's elements.
func inferItems(name string, items []*jsonValue) (*jsonSchema, error) {
	var first *jsonValue
	for _, item := range items {
		switch {
		case item.kind == jsonparser.Null:
		case first == nil:
			first = item
		case item.kind != first.kind || item.kind == jsonparser.Number && kindOf(item) != kindOf(first):
			return nil, errNoSchema
		}
	}
	if first == nil {
		return nil, errNoSchema
	}
	if first.kind != jsonparser.Object {
		s, err := infer("", first)
		if err == nil && s == nil {
			err = errNoSchema // of an empty array
		}
		return s, err
	}
	var merged *jsonSchema
	for _, item := range items {
		if item.kind == jsonparser.Null {
			continue
		}
		s, err := infer(name, item)
		if err != nil {
			return nil, err
		}
		if merged, err = merge(merged, s); err != nil {
			return nil, err
		}
	}
	return merged, nil
}

func kindOf(number *jsonValue) string {
	if number.number == "" {
		return "double"
	}
	return number.number
}

// merge adds the fields of another object of the same array.
func merge(a, b *jsonSchema) (*jsonSchema, error) {
	if a == nil || reflect.DeepEqual(a, b) {
		return b, nil
	}
	m := &jsonSchema{kind: "struct", name: a.name, required: true, fields: slices.Clone(a.fields)}
	for _, f := range b.fields {
		i := slices.IndexFunc(m.fields, func(have jsonField) bool { return have.name == f.name })
		switch {
		case i < 0:
			m.fields = append(m.fields, f)
		case !reflect.DeepEqual(m.fields[i].schema, f.schema):
			return nil, errConflict
		}
	}
	return m, nil
}

// obeys says whether v is what its schema says, as Connect checks it.
func obeys(v *jsonValue, s *jsonSchema) bool {
	switch v.kind {
	case jsonparser.Null:
		return !s.required
	case jsonparser.Number:
		return v.number == s.kind
	case jsonparser.String:
		return s.kind == "string"
	case jsonparser.Boolean:
		return s.kind == "boolean"
	case jsonparser.Array:
		return s.kind == "array" && !slices.ContainsFunc(v.items, func(item *jsonValue) bool { return !obeys(item, s.items) })
	}
	return s.kind == "struct" && !slices.ContainsFunc(s.fields, func(f jsonField) bool {
		m := v.member(f.name)
		return m != nil && !obeys(m, f.schema)
	})
}

func (s *jsonSchema) append(b []byte, field string) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, s.kind...)
	b = append(b, '"')
	switch s.kind {
	case "array":
		b = s.items.append(append(b, `,"items":`...), "")
	case "struct":
		b = append(b, `,"fields":[`...)
		for i, f := range s.fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = f.schema.append(b, f.name)
		}
		b = append(b, ']')
	}
	b = appendOptional(b, !s.required)
	if s.name != "" {
		b = appendQuoted(append(b, `,"name":`...), []byte(s.name))
	}
	return append(appendField(b, field), '}')
}
