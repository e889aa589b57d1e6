package route

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/buger/jsonparser"

	"github.com/outrider-relay/outrider/decoder"
)

// messages reads logical messages as rows: the content is a JSON object whose members are named as the columns of an
// outbox table are. It is used by one goroutine.
//
// A string is its text, null is NULL, and anything else is its JSON as it was written. Payload and headers are always
// their JSON, byte for byte: a payload that is a string keeps its quotes. A member that is missing is NULL, except the
// payload: that would be a tombstone, and only an explicit null asks for one. Of members of one name the last one counts.
type messages struct {
	// relation has a column for each member that a role or a setting refers to. It grows while its plan is made.
	relation *decoder.Relation
	members  map[string][]int // by name in the content: the columns that it fills; nil until there is a plan
	payload  int

	event   decoder.Event
	content []byte // being read
	texts   []byte // strings of the content that held escapes

	collect func(key, value []byte, kind jsonparser.ValueType, end int) error // m.member, bound once: no closure per message
}

// messageTypes are the types of the columns that are not text.
var messageTypes = map[string]uint32{"payload": oidJSON, "headers": oidJSON, "partition": oidInt4, "timestamp": oidTimestamptz}

// newMessages makes the columns that the roles have; making a plan adds those that templates and headers name.
func newMessages(overrides map[string]string) *messages {
	m := &messages{relation: &decoder.Relation{Name: "logical message"}}
	m.collect = m.member
	for _, role := range slices.Sorted(maps.Keys(columnNames)) {
		name := overrides[role]
		if names := columnNames[role]; name == "" && len(names) > 0 {
			name = names[0]
		}
		if name == "" {
			continue
		}
		i := m.column(name)
		if typ, other := messageTypes[role]; other {
			m.relation.Columns[i].Type = typ
		}
	}
	return m
}

// column gives the column called name, which is made unless it is there.
func (m *messages) column(name string) int {
	columns := m.relation.Columns
	if i := slices.IndexFunc(columns, func(c decoder.Column) bool { return c.Name == name }); i >= 0 {
		return i
	}
	m.relation.Columns = append(columns, decoder.Column{Name: name, Type: oidText, Modifier: -1})
	return len(columns)
}

// bound prepares for the content of messages, once the plan has named all columns.
func (m *messages) bound(p *plan, overrides map[string]string) {
	columns := m.relation.Columns
	m.payload = p.payload
	m.members = make(map[string][]int, len(columns))
	m.event.Values = make([]decoder.Value, len(columns))
	for i := range columns {
		m.members[columns[i].Name] = append(m.members[columns[i].Name], i)
	}
	for role, names := range columnNames {
		if _, overridden := overrides[role]; overridden || len(names) == 0 {
			continue
		}
		column := m.members[names[0]][0]
		for _, other := range names[1:] {
			m.members[other] = append(m.members[other], column)
		}
	}
}

// row gives e itself, or a logical message as a row of messages.relation, valid until the next call. One that cannot be read
// comes with an *Unroutable error; its content is its payload then.
func (r *Router) row(e *decoder.Event) (*decoder.Event, *plan, error) {
	if e.Relation != nil {
		p, err := r.planFor(e.Relation)
		return e, p, err
	}
	m := r.messages
	p, err := r.planFor(m.relation)
	if err != nil {
		return nil, nil, err
	}
	if m.members == nil {
		m.bound(p, r.settings.Columns)
	}
	m.event.Position, m.event.CommitTime, m.event.Relation = e.Position, e.CommitTime, m.relation
	if why := m.read(e.Content); why != "" {
		m.event.Values[m.payload] = decoder.Value{Format: decoder.Text, Data: e.Content}
		return &m.event, p, &Unroutable{why}
	}
	return &m.event, p, nil
}

// read fills m.event's values, and says why it cannot.
func (m *messages) read(content []byte) (why string) {
	for i := range m.event.Values {
		m.event.Values[i] = decoder.Value{Format: decoder.Null}
	}
	payload := &m.event.Values[m.payload]
	payload.Format = missing
	// Postgres sends the content as it is stored, in the encoding of the database, unlike a row.
	if !json.Valid(content) || !utf8.Valid(content) {
		return "the content is not JSON in UTF-8"
	}
	m.content, m.texts = content, m.texts[:0]
	if err := jsonparser.ObjectEach(content, m.collect); err != nil {
		return "the content is no JSON object"
	}
	if payload.Format == missing {
		return "the content has no payload (null makes a tombstone)"
	}
	return ""
}

// missing marks the payload until it is met.
const missing = decoder.Unchanged

// member takes one member of the content; end is where its value ends.
func (m *messages) member(key, value []byte, kind jsonparser.ValueType, end int) error {
	columns := m.members[string(key)]
	if len(columns) == 0 {
		return nil
	}
	v := decoder.Value{Format: decoder.Text, Data: value}
	verbatim := v
	switch kind {
	case jsonparser.Null:
		v = decoder.Value{Format: decoder.Null}
		verbatim = v
	case jsonparser.String:
		verbatim.Data = m.content[end-len(value)-2 : end] // with its quotes
		text, err := m.unescape(value)
		if err != nil {
			return err
		}
		v.Data = text
	}
	for _, i := range columns {
		if m.relation.Columns[i].Type == oidJSON {
			m.event.Values[i] = verbatim
		} else {
			m.event.Values[i] = v
		}
	}
	return nil
}

// unescape gives the text of a JSON string.
func (m *messages) unescape(s []byte) ([]byte, error) {
	if bytes.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	from := len(m.texts)
	m.texts = slices.Grow(m.texts, len(s))
	text, err := jsonparser.Unescape(s, m.texts[from:from+len(s)])
	if err != nil {
		return nil, err
	}
	m.texts = m.texts[:from+len(text)]
	return text, nil
}
