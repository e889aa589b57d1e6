package route

import (
	"fmt"
	"strings"

	"github.com/outrider-relay/outrider/decoder"
)

// template is text with ${column} references, parsed once when the relay starts.
type template []segment

// segment is literal text, or the name of a column or role where ref is set.
type segment struct {
	text string
	ref  bool
}

func parseTemplate(s string) (template, error) {
	var t template
	for s != "" {
		lit, rest, found := strings.Cut(s, "${")
		if lit != "" {
			t = append(t, segment{text: lit})
		}
		if !found {
			break
		}
		name, tail, closed := strings.Cut(rest, "}")
		if !closed || name == "" {
			return nil, fmt.Errorf("${%s is not a column reference: write ${column}", rest)
		}
		t = append(t, segment{text: name, ref: true})
		s = tail
	}
	return t, nil
}

// boundTemplate is a template whose references are column indexes of one relation.
type boundTemplate []boundSegment

type boundSegment struct {
	text   string // literal, or the column's name
	column int    // -1 for a literal
}

// bind resolves references through find, which knows roles and columns.
func (t template) bind(find func(name string) int) (boundTemplate, error) {
	bound := make(boundTemplate, 0, len(t))
	for _, s := range t {
		if !s.ref {
			bound = append(bound, boundSegment{text: s.text, column: -1})
			continue
		}
		column := find(s.text)
		if column < 0 {
			return nil, fmt.Errorf("no column for ${%s}", s.text)
		}
		bound = append(bound, boundSegment{text: s.text, column: column})
	}
	return bound, nil
}

// expand appends the text for one row to b. ok is false, with the column's name, when a referenced column is NULL.
func (t boundTemplate) expand(b []byte, values []decoder.Value) (_ []byte, null string, ok bool) {
	for i := range t {
		s := &t[i]
		if s.column < 0 {
			b = append(b, s.text...)
			continue
		}
		v := &values[s.column]
		if v.Format == decoder.Null {
			return b, s.text, false
		}
		b = append(b, v.Data...)
	}
	return b, "", true
}

// templatePart is a template's text as a part of a record.
type templatePart struct {
	template boundTemplate
	text     []byte
}

func (p *templatePart) load(values []decoder.Value) error {
	var null string
	var ok bool
	if p.text, null, ok = p.template.expand(p.text[:0], values); !ok {
		return &Unroutable{fmt.Sprintf("%s is NULL, and the key is made from it", null)}
	}
	return nil
}

func (p *templatePart) null() bool                 { return false }
func (p *templatePart) appendText(b []byte) []byte { return append(b, p.text...) }
func (p *templatePart) appendJSON(b []byte) []byte { return appendQuoted(b, p.text) }

func (p *templatePart) appendSchema(b []byte, field string) []byte {
	return appendSchema(b, "string", false, "", field)
}
