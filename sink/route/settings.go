package route

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Settings says how columns become a record. Roles are found by well-known column names; Columns overrides.
type Settings struct {
	// Columns maps a role (id, aggregate_type, aggregate_id, event_type, payload, headers, timestamp, topic, key, partition) to a
	// column; as schema.table.role it is that of one table alone.
	Columns map[string]string
	// Topic is a template over columns and roles. Empty: outbox.event.${aggregate_type}, or ${event_type} for a table that has no
	// aggregate. With TopicRegex: ${aggregate_type}, or ${event_type}.
	Topic string
	// TopicRegex rewrites what Topic yields, as Debezium's route.topic.regex and route.topic.replacement do.
	TopicRegex TopicRegex
	// Key is a template likewise, or "none". Empty: ${aggregate_id}, or no key for a table that has no aggregate.
	Key string
	// KeyFormat is Verbatim, JSON or JSONWithSchema. Empty: Verbatim; with Debezium: Value's.
	KeyFormat Format
	// AllowedTopics are names, or prefixes ending in *. Empty: whatever Topic yields. Topics that begin with __ are never allowed.
	AllowedTopics []string
	// Headers are "column" or "column:alias", in order.
	Headers []string
	// HeaderFormat is Verbatim, JSON or JSONWithSchema. Empty: Verbatim.
	HeaderFormat Format
	// Envelope are "column" or "column:alias". Not empty: the value is an object of the payload and these.
	Envelope []string
	// Value is the format of the value. Empty: Verbatim.
	Value Format
	// ExpandJSON writes a payload of JSON anew, as Debezium's table.expand.json.payload does.
	ExpandJSON bool
	// NoTombstone keeps a NULL payload from becoming a null value: it meets the policy. With Debezium it is what Value makes of
	// a NULL; and where it is not set, a payload of blanks is a tombstone too.
	NoTombstone bool
	// ProcessingTime stamps records with the present instead of the commit time.
	ProcessingTime bool
	// Source is a template, the source of CloudEvents. Empty: /outrider/<name>.
	Source string
	// OmitPosition leaves the position header out; only for at-least-once.
	OmitPosition bool
	// Debezium makes key, value, topic, partition and headers those of Debezium's outbox event router. Ours come after them.
	Debezium bool
	// Context are the context headers of Debezium's connector: connectorLogicalName, taskId, connectorName, runId. nil with
	// Debezium: the first one, with the relay's name.
	Context map[string]string
}

// TopicRegex is an expression in Java's syntax, as far as RE2 has it, and a replacement in Java's.
type TopicRegex struct{ Match, Replace string }

// A SettingError is a setting that no table could be routed by.
type SettingError struct{ Setting, Reason string }

func (e *SettingError) Error() string { return e.Setting + ": " + e.Reason }

// Check finds what is wrong with templates, expressions, and settings that contradict each other, for a relay of that name.
func (set *Settings) Check(name string) []*SettingError {
	p := withDefaults(set)
	p.readTexts(set, name)
	p.checkTogether(set)
	p.readContext(set, name)
	return p.wrong
}

// parsed is Settings as they were read, before any table is known.
type parsed struct {
	topic, key, source        template
	regex                     *topicRegex
	headers, envelope         []placement
	value                     Format
	keyFormat, headerFormat   Format
	context                   []placedHeader
	logicalName               string // of Debezium's connector
	contentTypeIsPlaced       bool
	topicIsDefault, keyAbsent bool

	wrong []*SettingError
}

// placement is a configured "column:alias".
type placement struct{ column, alias string }

// noKey is the key of records without one.
const noKey = "none"

// parse finds everything that can be wrong before a table is known.
func parse(set *Settings, name string) (parsed, error) {
	p := withDefaults(set)
	p.readTexts(set, name)
	for role := range set.Columns {
		_, known := columnNames[role[strings.LastIndex(role, ".")+1:]]
		if !known || strings.Count(role, ".") == 1 {
			p.refuse("outbox.columns", "%q is not a role, nor schema.table.role", role)
		}
	}
	p.headers = p.placements("outbox.headers", set.Headers)
	p.envelope = p.placements("outbox.envelope", set.Envelope)
	p.contentTypeIsPlaced = slices.ContainsFunc(p.headers, func(h placement) bool { return h.alias == contentType })
	p.checkTogether(set)
	p.readContext(set, name)
	errs := make([]error, len(p.wrong))
	for i, e := range p.wrong {
		errs[i] = e
	}
	return p, errors.Join(errs...)
}

func withDefaults(set *Settings) parsed {
	p := parsed{
		value: cmp.Or(set.Value, Verbatim), headerFormat: cmp.Or(set.HeaderFormat, Verbatim), keyFormat: cmp.Or(set.KeyFormat, Verbatim),
		topicIsDefault: set.Topic == "", keyAbsent: set.Key == noKey,
	}
	if set.Debezium {
		p.keyFormat = cmp.Or(set.KeyFormat, p.value)
	}
	return p
}

func (p *parsed) refuse(setting, format string, args ...any) {
	p.wrong = append(p.wrong, &SettingError{setting, fmt.Sprintf(format, args...)})
}

// readTexts reads the templates and the expression.
func (p *parsed) readTexts(set *Settings, name string) {
	read := func(setting, text string) template {
		t, err := parseTemplate(text)
		if err != nil {
			p.refuse(setting, "%v", err)
		}
		return t
	}
	p.topic = read("outbox.topic", set.Topic)
	if !p.keyAbsent {
		p.key = read("outbox.key", set.Key)
	}
	p.source = read("outbox.cloudevents.source", cmp.Or(set.Source, "/outrider/"+name))
	p.readRegex(set.TopicRegex)
}

func (p *parsed) placements(setting string, texts []string) []placement {
	var list []placement
	for _, text := range texts {
		column, alias, aliased := strings.Cut(text, ":")
		if !aliased {
			alias = column
		}
		if column == "" || alias == "" || strings.HasPrefix(alias, string(ownHeaderPrefix)) {
			p.refuse(setting, "%q is not column or column:alias (an alias may not begin with %s)", text, ownHeaderPrefix)
		}
		list = append(list, placement{column, alias})
	}
	return list
}

// checkTogether refuses settings that contradict each other.
func (p *parsed) checkTogether(set *Settings) {
	cloudEvents := p.value == CloudEventsBinary
	switch {
	case cloudEvents && set.Debezium:
		p.refuse("outbox.value", "Debezium's router makes no CloudEvents: cloudevents-binary does not go with outbox.compat: debezium")
	case cloudEvents && len(set.Envelope) > 0:
		p.refuse("outbox.envelope", "has no place in CloudEvents, whose attributes are headers: use outbox.headers")
	case set.ExpandJSON && (cloudEvents || p.value == Verbatim && !set.Debezium):
		p.refuse("outbox.expand_json", "has no effect with outbox.value: %s; use json or json-with-schema", p.value)
	}
	if set.Source != "" && !cloudEvents {
		p.refuse("outbox.cloudevents.source", "has no effect without outbox.value: cloudevents-binary")
	}
	if set.Context != nil && !set.Debezium {
		p.refuse("outbox.context_headers", "has no effect without outbox.compat: debezium")
	}
}

// contextNames are the context headers of Debezium's connector, in its order.
var contextNames = []string{"connectorLogicalName", "taskId", "connectorName", "runId"}

const contextPrefix = "__debezium.context."

func (p *parsed) readContext(set *Settings, name string) {
	context := set.Context
	if context == nil {
		context = map[string]string{contextNames[0]: name}
	}
	for _, n := range slices.Sorted(maps.Keys(context)) {
		if !slices.Contains(contextNames, n) {
			p.refuse("outbox.context_headers", "%q is none of %s", n, strings.Join(contextNames, ", "))
		}
	}
	p.logicalName = cmp.Or(context[contextNames[0]], name)
	for _, n := range contextNames {
		if value, ok := context[n]; ok {
			p.context = append(p.context, placedHeader{name: []byte(contextPrefix + n), part: constant(value), format: p.headerFormat})
		}
	}
}
