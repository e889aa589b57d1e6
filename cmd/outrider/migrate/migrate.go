// Package migrate translates a Debezium configuration.
package migrate

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Options are what a person adds to a configuration.
type Options struct {
	Name    string   // of the relay. Empty: made from the connector's.
	Brokers []string // host:port. Empty: what the configuration says; that of a connector of Kafka Connect says nothing.
}

// Result is a translation.
type Result struct {
	YAML []byte // settings of the relay
	// Lost are the options that were not carried over, and change what is delivered.
	Lost []Note
	// Notes are what a person should know; nothing is lost by it.
	Notes []Note
	// Needless are the options that have no counterpart and need none.
	Needless []string
}

// Note is about one option, called as it stands in the configuration.
type Note struct{ Option, Text string }

// Translate reads a connector of Kafka Connect (JSON, with or without the "config" around it) or the properties of
// Debezium Server, and gives settings of the relay. No password gets into the result.
func Translate(file []byte, o Options) (*Result, error) {
	in, err := read(file)
	if err != nil {
		return nil, err
	}
	t := &translation{input: in, result: &Result{}}
	if err := t.checkKind(); err != nil {
		return nil, err
	}
	name := o.Name
	if name == "" {
		name = relayName(in.name, in.options["topic.prefix"], "outbox")
	}
	t.name = name
	t.resolve()
	t.doc.set("name", name)
	t.postgres()
	t.kafka(o.Brokers)
	t.outbox()
	t.rest()
	t.result.YAML, err = t.doc.yaml()
	for _, notes := range []*[]Note{&t.result.Lost, &t.result.Notes} {
		slices.SortStableFunc(*notes, func(a, b Note) int { return strings.Compare(a.Option, b.Option) })
	}
	return t.result, err
}

// translation is one under way.
type translation struct {
	*input
	name   string
	doc    document
	result *Result
}

// checkKind finds what this cannot be a translation of.
func (t *translation) checkKind() error {
	if class := t.take("connector.class"); class != "" && !strings.HasSuffix(class, "PostgresConnector") {
		return fmt.Errorf("connector.class is %s: only Debezium's connector for PostgreSQL can be translated", class)
	}
	if sink := t.take("debezium.sink.type"); sink != "" && sink != "kafka" {
		return fmt.Errorf("debezium.sink.type is %s: the relay delivers to Kafka alone", sink)
	}
	for _, alias := range list(t.options["transforms"]) {
		if strings.HasSuffix(t.options["transforms."+alias+".type"], ".outbox.EventRouter") {
			return nil
		}
	}
	return errors.New("no transform is Debezium's outbox event router (io.debezium.transforms.outbox.EventRouter): the relay relays an outbox, not the changes of tables")
}

// take gives an option, which is then dealt with.
func (t *translation) take(option string) string {
	value := t.options[option]
	delete(t.options, option)
	return value
}

func (t *translation) takeOr(option, otherwise string) string {
	if value := t.take(option); value != "" {
		return value
	}
	return otherwise
}

// drop deals with all options that begin with prefix.
func (t *translation) drop(prefix string) {
	maps.DeleteFunc(t.options, func(option, _ string) bool { return strings.HasPrefix(option, prefix) })
}

// needless deals with an option that has no counterpart, if it is there.
func (t *translation) needless(option string) {
	if t.take(option) != "" {
		t.result.Needless = append(t.result.Needless, t.asWritten(option))
	}
}

// provided is a value that is looked up elsewhere when the connector starts.
var provided = regexp.MustCompile(`\$\{(\w+):[^}]*\}`)

// secrets are the options that may hold one; see secret for how they are copied.
var secrets = []string{"database.password", "database.sslpassword", producer + "sasl.jaas.config"}

// resolve replaces what only Quarkus or Kafka Connect could look up.
func (t *translation) resolve() {
	for _, option := range slices.Sorted(maps.Keys(t.options)) {
		value := t.options[option]
		t.options[option] = provided.ReplaceAllStringFunc(value, func(ref string) string {
			name := provided.FindStringSubmatch(ref)[1]
			switch {
			case name == "env" || slices.Contains(secrets, option) && !t.server:
				return ref
			case t.server:
				t.note(option, "the default of ${%s:...} is not carried over: set the variable", name)
				return "${env:" + name + "}"
			}
			t.lost(option, "it is looked up by the config provider %s: write the value itself", name)
			return "unknown"
		})
	}
}

func (t *translation) lost(option, format string, args ...any) {
	t.result.Lost = append(t.result.Lost, Note{t.asWritten(option), fmt.Sprintf(format, args...)})
}

func (t *translation) note(option, format string, args ...any) {
	t.result.Notes = append(t.result.Notes, Note{t.asWritten(option), fmt.Sprintf(format, args...)})
}

// rest deals with the options that nobody has taken.
func (t *translation) rest() {
	for _, option := range slices.Sorted(maps.Keys(t.options)) {
		known, found := lookUp(option)
		switch {
		case !found:
			t.lost(option, "unknown to this translation")
		case known.lost != "" && !slices.Contains(known.fine, strings.ToLower(t.options[option])):
			t.lost(option, "%s", known.lost)
		default:
			t.result.Needless = append(t.result.Needless, t.asWritten(option))
		}
	}
}

// relayName makes a name of the first text that has something to make one of.
func relayName(texts ...string) string {
	for _, text := range texts {
		name := strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '_'
		}, strings.ToLower(text)), "_")
		if name != "" {
			return name[:min(len(name), 40)]
		}
	}
	return ""
}

// list reads a comma-separated option.
func list(value string) []string {
	var entries []string
	for _, entry := range strings.Split(value, ",") {
		if entry = strings.TrimSpace(entry); entry != "" {
			entries = append(entries, entry)
		}
	}
	return entries
}
