package route

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/buger/jsonparser"
)

// jsonValue is a value as Java sees it.
type jsonValue struct {
	kind    jsonparser.ValueType
	text    []byte // of a string, its escapes resolved; of a number or a boolean, as it will be written
	number  string // Connect's type of a number; empty for one that is too large for any
	items   []*jsonValue
	members []jsonMember
	index   map[string]int // of members, by name
}

type jsonMember struct {
	name  string
	value *jsonValue
}

// member gives the member of a name, or nil.
func (v *jsonValue) member(name string) *jsonValue {
	if i, ok := v.index[name]; ok {
		return v.members[i].value
	}
	return nil
}

// maxDepth is how deep Jackson reads (StreamReadConstraints).
const maxDepth = 1000

var errDeep = errors.New("nested too deep")

func jsonKind(first byte) jsonparser.ValueType {
	if first == '[' {
		return jsonparser.Array
	}
	return jsonparser.Object
}

// parseJSON reads a valid value; text is that of a string without its quotes.
func parseJSON(text []byte, kind jsonparser.ValueType, depth int) (*jsonValue, error) {
	v := &jsonValue{kind: kind, text: text}
	if depth > maxDepth {
		return nil, errDeep
	}
	var err error
	switch kind {
	case jsonparser.String:
		v.text, err = jsonparser.Unescape(text, nil)
	case jsonparser.Number:
		v.text, v.number = javaNumber(text)
	case jsonparser.Array:
		_, err = jsonparser.ArrayEach(text, func(item []byte, kind jsonparser.ValueType, _ int, _ error) {
			child, failed := parseJSON(item, kind, depth+1)
			if failed != nil {
				err = failed
			}
			v.items = append(v.items, child)
		})
		return v, err
	case jsonparser.Object:
		v.index = make(map[string]int)
		err = jsonparser.ObjectEach(text, func(key, item []byte, kind jsonparser.ValueType, _ int) error {
			child, err := parseJSON(item, kind, depth+1)
			if err != nil {
				return err
			}
			v.set(string(key), child)
			return nil
		})
	}
	return v, err
}

// set adds a member, or gives the one of that name another value.
func (v *jsonValue) set(name string, value *jsonValue) {
	if i, ok := v.index[name]; ok {
		v.members[i].value = value
		return
	}
	v.index[name] = len(v.members)
	v.members = append(v.members, jsonMember{name, value})
}

// javaNumber gives a number as Java writes it back, and its type in Connect.
func javaNumber(text []byte) (written []byte, typ string) {
	if strings.ContainsAny(string(text), ".eE") {
		f, err := strconv.ParseFloat(string(text), 64)
		if err != nil {
			return text, "" // beyond a double
		}
		return appendFloat(nil, f, 64), "double"
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	switch {
	case err != nil:
		return text, ""
	case n >= math.MinInt32 && n <= math.MaxInt32:
		typ = "int32"
	default:
		typ = "int64"
	}
	return strconv.AppendInt(nil, n, 10), typ
}

func (v *jsonValue) appendJSON(b []byte, s *jsonSchema) []byte {
	switch v.kind {
	case jsonparser.String:
		return appendQuoted(b, v.text)
	case jsonparser.Array:
		b = append(b, '[')
		for i, item := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.appendJSON(b, s.items)
		}
		return append(b, ']')
	case jsonparser.Object:
		b = append(b, '{')
		for i, f := range s.fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendQuoted(b, []byte(f.name)), ':')
			if m := v.member(f.name); m != nil {
				b = m.appendJSON(b, f.schema)
			} else {
				b = append(b, "null"...)
			}
		}
		return append(b, '}')
	}
	return append(b, v.text...)
}

// appendText appends what Java's toString gives for the value in Connect, which StringConverter writes.
func (v *jsonValue) appendText(b []byte, s *jsonSchema) []byte {
	switch v.kind {
	case jsonparser.Array:
		b = append(b, '[')
		for i, item := range v.items {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = item.appendText(b, s.items)
		}
		return append(b, ']')
	case jsonparser.Object:
		b = append(b, "Struct{"...)
		first := true
		for _, f := range s.fields {
			m := v.member(f.name)
			if m == nil || m.kind == jsonparser.Null {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(append(b, f.name...), '=')
			b = m.appendText(b, f.schema)
		}
		return append(b, '}')
	}
	return append(b, v.text...)
}
