// Package vectors reads what Debezium's outbox event router was seen to make of rows.
package vectors

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Vector is one row, the router's settings, and the record that came out.
type Vector struct {
	Name     string
	Settings map[string]string // of the router, without the prefix of a transform
	Payload  *string           // nil: NULL
	Op       string            // c: insert, r: read by a snapshot, u, d, t

	Dropped bool
	Throws  string // what the router threw; empty: nothing

	Topic     string
	Partition int32 // -1: none
	Records   map[string]Record
	Headers   []Header
}

// Record is what a converter wrote: "string", "json" or "json+schema".
type Record struct {
	Key    string
	Value  *string // nil: null
	Throws string  // what the converter threw
}

// Header is one of the record's, as text and as JSON with schemas.
type Header struct{ Name, Text, JSON string }

var (
	head    = regexp.MustCompile(`^(.*?)  cfg=\{(.*?)\} payload=(.*) op=(\w)\n`)
	routed  = regexp.MustCompile(`(?s)  topic=(.*?) partition=(\w+) timestamp=`)
	written = regexp.MustCompile(`(?m)^  (string|json|json\+schema): key=\[(.*?)\] value=(.*)$`)
	header  = regexp.MustCompile(`(?m)^  header (\S+): simple=\[(.*?)\] jsonSchemas=\[(.*)\]$`)
	threw   = regexp.MustCompile(`(?m)^  SMT THROWS (.*)$`)
)

// Read reads a file of vectors.
func Read(path string) ([]Vector, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []Vector
	for _, block := range strings.Split(string(text), "=== ")[1:] {
		v, err := read(block)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, v)
	}
	return list, nil
}

func read(block string) (Vector, error) {
	first := head.FindStringSubmatch(block)
	if first == nil {
		return Vector{}, fmt.Errorf("%.60q is no vector", block)
	}
	v := Vector{Name: first[1], Settings: make(map[string]string), Op: first[4], Partition: -1, Records: make(map[string]Record)}
	if first[3] != "null" {
		v.Payload = &first[3]
	}
	if first[2] != "" {
		for _, setting := range strings.Split(first[2], ", ") {
			name, value, _ := strings.Cut(setting, "=")
			v.Settings[name] = value
		}
	}
	v.Dropped = strings.Contains(block, "\n  dropped")
	if m := threw.FindStringSubmatch(block); m != nil {
		v.Throws = m[1]
	}
	if v.Dropped || v.Throws != "" {
		return v, nil
	}
	to := routed.FindStringSubmatch(block)
	if to == nil {
		return v, fmt.Errorf("vector %q has no topic", v.Name)
	}
	v.Topic = to[1]
	if n, err := strconv.ParseInt(to[2], 10, 32); err == nil {
		v.Partition = int32(n)
	}
	for _, m := range written.FindAllStringSubmatch(block, -1) {
		r := Record{Key: m[2]}
		switch value := m[3]; {
		case value == "<null>":
		case strings.HasPrefix(value, "THROWS "):
			r.Throws = value[len("THROWS "):]
		default:
			value = value[1 : len(value)-1]
			r.Value = &value
		}
		v.Records[m[1]] = r
	}
	for _, m := range header.FindAllStringSubmatch(block, -1) {
		v.Headers = append(v.Headers, Header{m[1], m[2], m[3]})
	}
	if len(v.Records) != 3 || len(v.Headers) == 0 {
		return v, fmt.Errorf("vector %q has %d records, %d headers", v.Name, len(v.Records), len(v.Headers))
	}
	return v, nil
}

// Column is a column of the row that a vector is about.
type Column struct {
	Name, Type string // of PostgreSQL
	NotNull    bool
	Value      *string // as SQL takes it; nil: NULL
}

// ID is the id of every row.
const ID = "4d47e190-0402-4048-bc2c-89dd54343cdc"

// Columns gives the row.
func (v *Vector) Columns() []Column {
	text := func(s string) *string { return &s }
	aggregate := text("order")
	switch v.Name {
	case "null aggregatetype":
		aggregate = nil
	case "empty aggregatetype":
		aggregate = text("")
	case "illegal topic chars":
		aggregate = text("My Order/1")
	case "newline in aggregatetype":
		aggregate = text("a\nb")
	}
	payload := Column{"payload", "json", false, v.Payload}
	switch {
	case v.Payload != nil && strings.HasPrefix(*v.Payload, "java.nio."): // as StringConverter shows it: base64 says that it is abc
		payload.Type, payload.Value = "bytea", text("abc")
	case v.Payload != nil && !json.Valid([]byte(*v.Payload)):
		payload.Type = "text"
	}
	row := []Column{
		{"id", "uuid", true, text(ID)},
		{"aggregatetype", "varchar", false, aggregate},
		{"aggregateid", "varchar", false, text("1")},
		{"type", "varchar", true, text("OrderCreated")},
		payload,
	}
	switch v.Name {
	case "partition int4":
		row = append(row, Column{"p", "int4", false, text("7")})
	case "partition int8":
		row = append(row, Column{"p", "int8", false, text("7")})
	case "timestamp timestamptz":
		row = append(row, Column{"ts", "timestamptz", false, text("2019-05-03 13:31:34.484+00")})
	case "timestamp bigint":
		row = append(row, Column{"ts", "int8", false, text("1556890294484")})
	case "timestamp null value":
		row = append(row, Column{"ts", "timestamp", false, nil})
	}
	return row
}
