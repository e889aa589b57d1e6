package migrate

import (
	"slices"
	"strings"

	"github.com/outrider-relay/outrider/sink/route"
)

// outbox translates the outbox event router and what makes bytes of its records.
func (t *translation) outbox() {
	t.doc.set("outbox.tables", t.tables())
	t.doc.set("outbox.compat", "debezium")
	if skipped := t.options["skipped.operations"]; !slices.Contains(list(skipped), "c") {
		t.needless("skipped.operations") // of inserts alone events are made
	}
	messages := false
	for _, alias := range list(t.take("transforms")) {
		transform := "transforms." + alias + "."
		class := t.take(transform + "type")
		if predicate := t.take(transform + "predicate"); predicate != "" {
			t.lost(transform+"predicate", "the relay applies to all rows what it does to any")
		}
		t.take(transform + "negate")
		switch name := class[strings.LastIndex(class, ".")+1:]; name {
		case "EventRouter":
			t.router(transform)
		case "DecodeLogicalDecodingMessageContent":
			messages = true
			t.take(transform + "fields.null.include") // members that are null are passed on, wherever they are
		default:
			t.lost(transform+"type", "%s is not built in", name)
			t.drop(transform)
		}
	}
	t.drop("predicates")
	t.messages(messages)
	t.converters()
	t.context()
	if t.take("errors.tolerance") == "all" || slices.Contains([]string{"skip", "warn", "ignore"}, t.take("event.processing.failure.handling.mode")) {
		t.doc.set("outbox.on_poison", "skip")
	}
}

// router translates the options of the outbox event router. Column names that the relay finds by itself are left out.
func (t *translation) router(transform string) {
	field := func(option, byDefault, role string) {
		if column := t.takeOr(transform+option, byDefault); column != byDefault {
			t.doc.set("outbox.columns."+role, column)
		}
	}
	field("table.field.event.id", "id", "id")
	field("route.by.field", "aggregatetype", "aggregate_type")
	field("table.field.event.key", "aggregateid", "aggregate_id")
	field("table.field.event.payload", "payload", "payload")
	if column := t.take(transform + "table.field.event.timestamp"); column != "" {
		if t.server {
			t.note(transform+"table.field.event.timestamp", "Debezium Server stamps records with the time of sending whatever it says, and so does the relay")
		} else {
			t.doc.set("outbox.columns.timestamp", column)
		}
	}
	t.topicRegex(transform)
	envelope := t.placements(transform)
	if t.take(transform+"table.expand.json.payload") == "true" {
		t.doc.set("outbox.expand_json", true)
	} else {
		t.take(transform + "table.json.payload.null.behavior") // of no effect without it
		t.take(transform + "table.json.payload.empty.array.behavior")
	}
	if !envelope {
		t.take(transform + "table.field.event.schema.version") // likewise
	}
	t.doc.set("outbox.timestamp", "processing")
	if t.take(transform+"route.tombstone.on.empty.payload") == "true" {
		t.doc.set("outbox.tombstone_on_null", true)
	}
	// What is left is looked up without the name that the transform has here.
	for _, option := range optionsUnder(t.options, transform) {
		value := t.take(option)
		plain := routerOptions + strings.TrimPrefix(option, transform)
		t.options[plain] = value
		if t.written == nil {
			t.written = make(map[string]string)
		}
		t.written[plain] = t.asWritten(option)
	}
}

func (t *translation) topicRegex(transform string) {
	match, replace := t.take(transform+"route.topic.regex"), t.take(transform+"route.topic.replacement")
	routing := route.Settings{TopicRegex: route.TopicRegex{Match: match, Replace: replace}, Debezium: true}
	if wrong := routing.Check(t.name); len(wrong) > 0 {
		option := "route.topic.regex"
		if strings.HasSuffix(wrong[0].Setting, "replace") {
			option = "route.topic.replacement"
		}
		t.lost(transform+option, "%s; topics are named as by default", wrong[0].Reason)
		return
	}
	if match != "" {
		t.doc.set("outbox.topic_regex.match", match)
	}
	if replace != "" {
		t.doc.set("outbox.topic_regex.replace", replace)
	}
}

// placements reads column:placement[:alias], and says whether any is for the envelope.
func (t *translation) placements(transform string) (envelope bool) {
	option := transform + "table.fields.additional.placement"
	var headers, members []string
	for _, entry := range list(t.take(option)) {
		parts := strings.Split(entry, ":")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		placed := parts[0]
		if len(parts) == 3 {
			placed += ":" + parts[2]
		}
		switch {
		case len(parts) < 2 || len(parts) > 3:
			t.lost(option, "%q is not column:placement or column:placement:alias", entry)
		case parts[1] == "header":
			headers = append(headers, placed)
		case parts[1] == "envelope":
			members = append(members, placed)
		case parts[1] == "partition":
			t.doc.set("outbox.columns.partition", parts[0])
		default:
			t.lost(option, "%q is no placement", parts[1])
		}
	}
	if headers != nil {
		t.doc.set("outbox.headers", headers)
	}
	if members != nil {
		t.doc.set("outbox.envelope", members)
	}
	return members != nil
}

// messages translates logical messages that come to the router as rows would.
func (t *translation) messages(decoded bool) {
	const include = "message.prefix.include.list"
	if !decoded {
		if t.options[include] != "" {
			t.lost(include, "without DecodeLogicalDecodingMessageContent messages are no outbox events, and are not relayed to a topic of their own")
			t.take(include)
		}
		return
	}
	prefixes := list(t.take(include))
	if len(prefixes) == 0 {
		t.lost(include, "every prefix was an outbox event: set outbox.logical_messages.prefixes")
		return
	}
	for _, prefix := range prefixes {
		if strings.ContainsAny(prefix, `\^$.|?*+()[]{}`) {
			t.lost(include, "%s is an expression: name the prefixes themselves in outbox.logical_messages.prefixes", prefix)
		}
	}
	t.doc.set("outbox.logical_messages.prefixes", prefixes)
}

// converters translates what makes bytes of keys, values and headers.
func (t *translation) converters() {
	value, key := t.converter("value", ""), t.converter("key", "")
	t.doc.set("outbox.value", value)
	if key != value {
		t.doc.set("outbox.key_format", key)
	}
	if header := t.converter("header", "SimpleHeaderConverter"); header != "verbatim" {
		t.doc.set("outbox.header_format", header)
	}
}

func (t *translation) converter(part, byDefault string) (format string) {
	option := part + ".converter"
	class := t.takeOr(option, byDefault)
	schemas := t.takeOr(option+".schemas.enable", "true")
	switch name := class[strings.LastIndex(class, ".")+1:]; name {
	case "StringConverter", "SimpleHeaderConverter":
		return "verbatim"
	case "ByteArrayConverter", "BinaryDataConverter":
		t.drop(option + ".delegate.")
		return "verbatim"
	case "JsonConverter":
		if schemas == "false" {
			return "json"
		}
		return "json-with-schema"
	case "":
		t.lost(option, "the worker's applies, which is not known here: taken for JSON with schemas. See that outbox.value and outbox.key_format are right")
		return "json-with-schema"
	default:
		t.lost(option, "%s is not built in: taken for JSON with schemas", name)
		t.drop(option + ".")
		return "json-with-schema"
	}
}

// context translates the headers that name the connector.
func (t *translation) context() {
	prefix := t.take("topic.prefix")
	if old := t.take("database.server.name"); prefix == "" {
		prefix = old
	}
	if t.takeOr("extended.headers.enabled", "true") == "false" {
		t.doc.set("outbox.context_headers", map[string]string{})
		return
	}
	if prefix != "" {
		t.doc.set("outbox.context_headers.connectorLogicalName", prefix)
		t.doc.set("outbox.context_headers.taskId", "0")
		t.doc.set("outbox.context_headers.connectorName", "postgresql")
		t.doc.comment("outbox.context_headers", "Debezium before 3.2.1 had none of these: {} leaves them out.")
		t.note("extended.headers.enabled", "of the four context headers runId is left out, which was another one at every start")
	}
}
