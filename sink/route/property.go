package route

import (
	"strconv"
	"strings"

	"github.com/outrider-relay/outrider/decoder"
)

// propertyPart is one property of a column that holds a serialised java.util.Properties, which is how Debezium's tracing, and
// Quarkus' outbox extension, keep a trace context.
type propertyPart struct {
	column int
	key    string

	value string
	found bool
}

func (p *propertyPart) load(values []decoder.Value) error {
	p.value, p.found = "", false
	if v := &values[p.column]; v.Format != decoder.Null {
		p.value, p.found = property(string(v.Data), p.key)
	}
	return nil
}

func (p *propertyPart) null() bool                 { return !p.found }
func (p *propertyPart) appendText(b []byte) []byte { return append(b, p.value...) }
func (p *propertyPart) appendJSON(b []byte) []byte { return appendQuoted(b, []byte(p.value)) }
func (p *propertyPart) appendSchema(b []byte, field string) []byte {
	return appendSchema(b, "string", true, "", field)
}

// property finds a key in what Properties.store has written: comments, and a line key=value each, with escapes.
func property(text, key string) (value string, found bool) {
	for line := range strings.Lines(text) {
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t\f") // spaces at the end belong to the value
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "!") {
			continue
		}
		name, rest, ok := strings.Cut(line, "=")
		if ok && unescapeProperty(strings.TrimSpace(name)) == key {
			return unescapeProperty(strings.TrimLeft(rest, " \t\f")), true
		}
	}
	return "", false
}

func unescapeProperty(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch c := s[i]; c {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			n, err := strconv.ParseUint(s[i+1:min(i+5, len(s))], 16, 16)
			if err != nil {
				b.WriteByte(c)
				continue
			}
			b.WriteRune(rune(n))
			i += 4
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
