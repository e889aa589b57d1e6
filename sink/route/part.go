package route

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"

	"github.com/outrider-relay/outrider/decoder"
)

// Format is how a column, or an object made of several, is written into a record.
type Format string

const (
	Verbatim       Format = "verbatim"         // as Postgres prints it; a bytea as its bytes
	JSON           Format = "json"             // as Kafka Connect's JsonConverter writes it without schemas: text as a JSON string
	JSONWithSchema Format = "json-with-schema" // as the same converter writes it with them: {"schema": ..., "payload": ...}
	// CloudEventsBinary is a value as Verbatim gives it, with the event's attributes as headers.
	CloudEventsBinary Format = "cloudevents-binary"
)

// part is something of a row that can be written in any format. It holds one row at a time: load, then write.
type part interface {
	// load takes what the row has. Its error is the row's own fault.
	load(values []decoder.Value) error
	// null says that there is nothing.
	null() bool
	// appendText appends it as text, or as bytes.
	appendText(b []byte) []byte
	// appendJSON appends it as JSON; null where there is nothing.
	appendJSON(b []byte) []byte
	// appendSchema appends its Connect schema as JSON, as that of a field where field is not empty.
	appendSchema(b []byte, field string) []byte
}

// write gives p, which is loaded, in a format. The result lies in scratch; nil is null.
func (r *Router) write(p part, f Format) []byte {
	if p.null() && f != JSON && f != JSONWithSchema {
		return nil
	}
	from := len(r.scratch)
	switch f {
	case JSON:
		r.scratch = p.appendJSON(r.scratch)
	case JSONWithSchema:
		r.scratch = append(r.scratch, `{"schema":`...)
		r.scratch = p.appendSchema(r.scratch, "")
		r.scratch = append(r.scratch, `,"payload":`...)
		r.scratch = p.appendJSON(r.scratch)
		r.scratch = append(r.scratch, '}')
	default:
		r.scratch = p.appendText(r.scratch)
	}
	return r.scratch[from:len(r.scratch):len(r.scratch)]
}

// columnPart is a column.
type columnPart struct {
	column   int
	name     string // for errors
	typ      connectType
	optional bool
	embedded bool // its text is JSON, and stays what it is within JSON

	missing bool
	text    []byte
	buffer  []byte // of what was converted
}

func (p *columnPart) load(values []decoder.Value) (err error) {
	v := &values[p.column]
	p.text = v.Data
	if p.missing = v.Format == decoder.Null; p.missing || p.typ.convert == nil {
		return nil
	}
	if p.buffer, err = p.typ.convert(p.buffer[:0], v.Data); err != nil {
		return &Unroutable{"column " + p.name + " " + err.Error()}
	}
	p.text = p.buffer
	return nil
}

func (p *columnPart) null() bool { return p.missing }

func (p *columnPart) appendText(b []byte) []byte { return append(b, p.text...) }

func (p *columnPart) appendJSON(b []byte) []byte {
	switch {
	case p.missing:
		return append(b, "null"...)
	case p.embedded:
		return append(b, p.text...)
	case p.typ.kind == "bytes":
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, p.text)
		return append(b, '"')
	case p.typ.kind == "string" || notFinite(p.text):
		return appendQuoted(b, p.text)
	}
	return append(b, p.text...)
}

// notFinite says whether the text of a number is none that JSON knows: NaN, Infinity, -Infinity.
func notFinite(text []byte) bool {
	last := len(text) - 1
	return last >= 0 && (text[last] == 'N' || text[last] == 'y')
}

func (p *columnPart) appendSchema(b []byte, field string) []byte {
	return appendSchema(b, p.typ.kind, p.optional, p.typ.logical, field)
}

// appendSchema appends the schema of a single value.
func appendSchema(b []byte, kind string, optional bool, logical, field string) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, kind...)
	b = append(b, '"')
	b = appendOptional(b, optional)
	if logical != "" {
		b = append(b, `,"name":"`...)
		b = append(b, logical...)
		b = append(b, `","version":1`...)
	}
	b = appendField(b, field)
	return append(b, '}')
}

func appendOptional(b []byte, optional bool) []byte {
	return strconv.AppendBool(append(b, `,"optional":`...), optional)
}

// appendField ends the schema of a field.
func appendField(b []byte, field string) []byte {
	if field == "" {
		return b
	}
	return appendQuoted(append(b, `,"field":`...), []byte(field))
}

// constant is a part that every record has alike.
type constant string

func (constant) load([]decoder.Value) error { return nil }
func (constant) null() bool                 { return false }

func (c constant) appendText(b []byte) []byte { return append(b, c...) }
func (c constant) appendJSON(b []byte) []byte { return appendQuoted(b, []byte(c)) }

func (constant) appendSchema(b []byte, field string) []byte {
	return appendSchema(b, "string", false, "", field)
}

// appendHex appends the bytes of a bytea, which Postgres prints in hex.
func appendHexBytes(b, text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' {
		return b, errNotHex
	}
	b, err := hex.AppendDecode(b, text[2:])
	if err != nil {
		return b, errNotHex
	}
	return b, nil
}
