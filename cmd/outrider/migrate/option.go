package migrate

import (
	"maps"
	"slices"
	"strings"
)

// option is one that is looked up when nothing has translated it.
type option struct {
	name string // ends in * for all that begin so
	// lost says what changes when the option is not carried over; empty: nothing.
	lost string
	// fine are values under which nothing changes, the default among them; in lower case.
	fine []string
}

// routerOptions begins the options of the outbox event router, whatever the transform is called.
const routerOptions = "transforms.*."

// lookUp finds an option by its name, or by the longest pattern that it matches.
func lookUp(name string) (found option, ok bool) {
	longest := -1
	for _, o := range untranslated {
		prefix, pattern := strings.CutSuffix(o.name, "*")
		if o.name == name {
			return o, true
		}
		if pattern && strings.HasPrefix(name, prefix) && len(prefix) > longest {
			found, ok, longest = o, true, len(prefix)
		}
	}
	return found, ok
}

// optionsUnder gives the names that begin with prefix.
func optionsUnder(options map[string]string, prefix string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(options)), func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

// translated are the options that have a counterpart.
var translated = []string{
	"connector.class", "transforms", "database.hostname", "database.port", "database.user", "database.password", "database.dbname",
	"database.sslmode", "database.sslrootcert", "database.sslcert", "database.sslkey", "database.sslpassword", "database.server.name",
	"plugin.name", "slot.name", "slot.failover", "publication.name", "publication.autocreate.mode", "table.include.list", "schema.include.list",
	"schema.exclude.list", "topic.prefix", "extended.headers.enabled", "message.prefix.include.list",
	"errors.tolerance", "event.processing.failure.handling.mode", "exactly.once.support",
	"key.converter", "key.converter.schemas.enable", "value.converter", "value.converter.schemas.enable", "header.converter", "header.converter.schemas.enable",
	"topic.creation.default.partitions", "topic.creation.default.replication.factor",
	producer + "bootstrap.servers", producer + "client.id", producer + "compression.type", producer + "linger.ms", producer + "max.request.size",
	producer + "request.timeout.ms", producer + "security.protocol", producer + "sasl.mechanism", producer + "sasl.jaas.config",
	producer + "ssl.truststore.location", producer + "ssl.truststore.type", producer + "ssl.keystore.location", producer + "ssl.keystore.type",
}

// translatedOfRouter are those of the outbox event router, and of any transform.
var translatedOfRouter = []string{
	"type", "predicate", "negate", "table.field.event.id", "table.field.event.key", "table.field.event.payload", "table.field.event.timestamp",
	"table.fields.additional.placement", "table.expand.json.payload", "route.by.field", "route.topic.regex", "route.topic.replacement",
	"route.tombstone.on.empty.payload",
}

// everyOption gives all names that an environment variable may stand for, as Debezium Server has them.
func everyOption(aliases []string) []string {
	names := []string{"debezium.transforms", "debezium.sink.type", "debezium.format.schemas.enable"}
	for _, part := range []string{"key", "value", "header"} {
		names = append(names, "debezium.format."+part, "debezium.format."+part+".schemas.enable")
	}
	add := func(name string) {
		if rest, ofProducer := strings.CutPrefix(name, producer); ofProducer {
			names = append(names, "debezium.sink.kafka.producer."+rest)
		} else {
			names = append(names, "debezium.source."+name)
		}
	}
	for _, name := range translated {
		add(name)
	}
	for _, alias := range aliases {
		for _, name := range translatedOfRouter {
			names = append(names, "debezium.transforms."+alias+"."+name)
		}
	}
	for _, o := range untranslated {
		if rest, ofRouter := strings.CutPrefix(o.name, routerOptions); ofRouter {
			for _, alias := range aliases {
				names = append(names, "debezium.transforms."+alias+"."+rest)
			}
		} else if !strings.HasSuffix(o.name, "*") {
			add(o.name)
		}
	}
	return names
}
