package migrate

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// base is a connector of which everything is carried over.
var base = map[string]string{
	"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "plugin.name": "pgoutput",
	"database.hostname": "localhost", "database.dbname": "shop", "database.user": "relay",
	"topic.prefix": "shop", "table.include.list": "public.outbox",
	"key.converter": "StringConverter", "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": "false",
	"transforms": "o", "transforms.o.type": "io.debezium.transforms.outbox.EventRouter",
}

// translateWith translates base with other options; an empty value takes one away.
func translateWith(t *testing.T, options map[string]string) *Result {
	t.Helper()
	all := maps.Clone(base)
	maps.Copy(all, options)
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	in, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Translate(in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	load(t, got.YAML)
	return got
}

func TestBaseLosesNothing(t *testing.T) {
	if got := translateWith(t, nil); len(got.Lost)+len(got.Needless) > 0 {
		t.Errorf("lost %v, needless %v", got.Lost, got.Needless)
	}
}

// What becomes of an option: a text of the YAML for one that is carried over.
const (
	lost     = "(lost)"
	needless = "(needless)"
	said     = "(said in a note, or dealt with in silence)"
)

func TestEveryOptionIsCarriedOverOrNamed(t *testing.T) {
	const router = "transforms.o."
	for _, c := range []struct{ option, value, becomes string }{
		// The outbox event router.
		{router + "table.op.invalid.behavior", "warn", needless},
		{router + "table.op.invalid.behavior", "error", needless},
		{router + "table.op.invalid.behavior", "fatal", lost},
		{router + "table.field.event.id", "event", "id: event"},
		{router + "table.field.event.id", "id", said},
		{router + "table.field.event.key", "customer", "aggregate_id: customer"},
		{router + "table.field.event.type", "kind", needless},
		{router + "table.field.event.payload", "body", "payload: body"},
		{router + "table.field.event.timestamp", "at", "timestamp: at"},
		{router + "table.field.event.schema.version", "v", said}, // of effect in an envelope alone
		{router + "table.fields.additional.placement", "type:header:eventType,tenant:header", "headers:\n    - type:eventType\n    - tenant\n"},
		{router + "table.fields.additional.placement", "type:envelope", "envelope:\n    - type\n"},
		{router + "table.fields.additional.placement", "shard:partition", "partition: shard"},
		{router + "table.fields.additional.placement", "type:footer", lost},
		{router + "table.fields.additional.placement", "type", lost},
		{router + "table.field.additional.missing", "error", needless},
		{router + "table.field.additional.missing", "ignore", lost},
		{router + "table.expand.json.payload", "true", "expand_json: true"},
		{router + "table.expand.json.payload", "false", said},
		{router + "table.json.payload.null.behavior", "optional_bytes", said}, // of effect with expand alone
		{router + "table.json.payload.empty.array.behavior", "optional_string", said},
		{router + "route.by.field", "kind", "aggregate_type: kind"},
		{router + "route.topic.regex", "(?<routedByValue>.*)x", "match: (?<routedByValue>.*)x"},
		{router + "route.topic.regex", "(?<routedByValue>a(?=b)).*", lost},
		{router + "route.topic.replacement", "${routedByValue}.events", "replace: ${routedByValue}.events"},
		{router + "route.topic.replacement", "$7", lost},
		{router + "route.tombstone.on.empty.payload", "true", "tombstone_on_null: true"},
		{router + "tracing.span.context.field", "tracingspancontext", needless},
		{router + "tracing.span.context.field", "trace", lost},
		{router + "tracing.operation.name", "relay", needless},
		{router + "tracing.with.context.field.only", "true", needless},
		{router + "tracing.with.context.field.only", "false", lost},
		{router + "predicate", "isOutbox", lost},
		{router + "no.such.option", "x", lost},
		{"predicates", "isOutbox", said}, // of effect through predicate alone
		{"field.name.adjustment.mode", "avro", lost},

		// The connector.
		{"plugin.name", "decoderbufs", lost},
		{"slot.name", "mine", "slot: mine"},
		{"slot.drop.on.stop", "true", lost},
		{"slot.drop.on.stop", "false", needless},
		{"slot.failover", "false", "failover: \"false\""},
		{"slot.failover", "true", said}, // the relay's default
		{"slot.max.retries", "6", needless},
		{"slot.retry.delay.ms", "10000", needless},
		{"slot.stream.params", "origin=none", lost},
		{"create.slot.command.timeout", "90", needless},
		{"publication.name", "mine", "publication: mine"},
		{"publication.autocreate.mode", "filtered", said},
		{"publish.via.partition.root", "true", needless},
		{"skipped.operations", "t", needless},
		{"skipped.operations", "d, u", needless},
		{"skipped.operations", "c,u", lost},
		{"table.include.list", `public\.outbox,shop.outbox`, "tables:\n    - public.outbox\n    - shop.outbox\n"},
		{"table.include.list", "public.out.*", lost},
		{"table.exclude.list", "public.x", lost},
		{"schema.include.list", "public", said}, // the tables say it
		{"column.exclude.list", "public.outbox.x", lost},
		{"column.mask.hash.SHA-256.with.salt.x", "public.outbox.x", lost},
		{"replica.identity.autoset.values", "public.outbox:DEFAULT", needless},
		{"snapshot.mode", "initial", needless},
		{"snapshot.mode", "no_data", needless},
		{"snapshot.mode", "always", lost},
		{"snapshot.mode", "initial_only", lost},
		{"snapshot.isolation.mode", "serializable", needless},
		{"snapshot.locking.mode", "none", needless},
		{"snapshot.fetch.size", "10240", needless},
		{"snapshot.max.threads", "1", needless},
		{"signal.data.collection", "public.signal", lost},
		{"signal.enabled.channels", "source", lost},
		{"incremental.snapshot.chunk.size", "1024", needless},
		{"incremental.snapshot.watermarking.strategy", "insert_insert", needless},
		{"read.only", "true", needless},
		{"notification.enabled.channels", "sink", lost},
		{"heartbeat.interval.ms", "1000", needless},
		{"heartbeat.action.query", "insert into heartbeat", needless},
		{"lsn.flush.mode", "connector", needless},
		{"lsn.flush.mode", "manual", lost},
		{"lsn.flush.timeout.ms", "30000", needless},
		{"lsn.flush.timeout.action", "fail", needless},
		{"flush.lsn.source", "true", needless},
		{"flush.lsn.source", "false", lost},
		{"offset.mismatch.strategy", "trust_slot", needless},
		{"offset.storage", "org.apache.kafka.connect.storage.FileOffsetBackingStore", needless},
		{"offset.storage.file.filename", "data/offsets.dat", needless},
		{"offset.flush.interval.ms", "60000", needless},
		{"status.update.interval.ms", "10000", needless},
		{"xmin.fetch.interval.ms", "0", needless},
		{"errors.max.retries", "-1", needless},
		{"retriable.restart.connector.wait.ms", "10000", needless},
		{"event.processing.failure.handling.mode", "fail", said},
		{"event.processing.failure.handling.mode", "warn", "on_poison: skip"},
		{"errors.tolerance", "all", "on_poison: skip"},
		{"max.batch.size", "2048", needless},
		{"max.queue.size", "8192", needless},
		{"max.queue.size.in.bytes", "0", needless},
		{"poll.interval.ms", "500", needless},
		{"poll.dispatch.interval.ms", "0", needless},
		{"provide.transaction.metadata", "true", lost},
		{"provide.transaction.metadata", "false", needless},
		{"unavailable.value.placeholder", "x", needless},
		{"binary.handling.mode", "bytes", needless},
		{"binary.handling.mode", "hex", lost},
		{"decimal.handling.mode", "string", lost},
		{"time.precision.mode", "connect", lost},
		{"guardrail.collections.max", "0", needless},
		{"database.initial.statements", "set x = y", needless},
		{"database.query.timeout.ms", "600000", needless},
		{"database.tcpKeepAlive", "true", needless},
		{"extended.headers.enabled", "false", "context_headers: {}"},
		{"topic.prefix", "dbz", "connectorLogicalName: dbz"},
		{"exactly.once.support", "required", said},
		{"transaction.boundary", "poll", needless},
		{"transaction.boundary", "interval", lost},
		{"message.prefix.include.list", "orders", lost}, // without the transform that decodes them
		{"message.prefix.exclude.list", "orders", needless},
		{"no.such.option", "x", lost},

		// The database.
		{"database.hostname", "::1", "@[::1]:5432/"},
		{"database.port", "5433", "localhost:5433/"},
		{"database.user", "a b@c", "postgres://a+b%40c@"},
		{"database.dbname", "my shop", "/my+shop?"},
		{"database.sslmode", "verify-full", "sslmode=verify-full"},
		{"database.password", "${env:VAR}", "relay:${env:VAR}@"},

		// Converters.
		{"value.converter", "io.confluent.connect.avro.AvroConverter", lost},
		{"value.converter", "", lost},
		{"value.converter", "io.debezium.converters.BinaryDataConverter", "value: verbatim"},
		{"value.converter.schemas.enable", "true", "value: json-with-schema"},
		{"key.converter", "JsonConverter", "key_format: json-with-schema"},
		{"header.converter", "org.apache.kafka.connect.json.JsonConverter", "header_format: json-with-schema"},
		{"header.converter", "SimpleHeaderConverter", said},
		{"value.converter.decimal.format", "NUMERIC", lost},
		{"value.converter.replace.null.with.default", "true", needless},

		// Kafka.
		{"producer.override.bootstrap.servers", "a:1,b:2", "brokers:\n    - a:1\n    - b:2\n"},
		{"producer.override.client.id", "me", "client_id: me"},
		{"producer.override.compression.type", "zstd", "compression: zstd"},
		{"producer.override.linger.ms", "5", "linger: 5ms"},
		{"producer.override.max.request.size", "2097152", "batch_bytes: \"2097152\""},
		{"producer.override.max.request.size", "33554432", "max_in_flight_bytes: \"33554432\""},
		{"producer.override.request.timeout.ms", "10000", "broker: 10000ms"},
		{"producer.override.acks", "all", needless},
		{"producer.override.max.in.flight.requests.per.connection", "1", needless},
		{"producer.override.partitioner.class", "org.apache.kafka.clients.producer.RoundRobinPartitioner", lost},
		{"producer.override.interceptor.classes", "x", lost},
		{"producer.override.security.protocol", "SSL", "enabled: true"},
		{"topic.creation.default.partitions", "3", lost}, // without a replication factor
		{"topic.creation.groups", "other", lost},
	} {
		t.Run(c.option+"="+c.value, func(t *testing.T) {
			got := translateWith(t, map[string]string{c.option: c.value})
			isLost, isNeedless := len(got.Lost) > 0, len(got.Needless) > 0
			switch c.becomes {
			case lost:
				if isNeedless || !isLost || !strings.HasPrefix(got.Lost[0].Option, c.option) && c.option != "topic.creation.default.partitions" {
					t.Errorf("lost %v, needless %v", got.Lost, got.Needless)
				}
			case needless:
				if isLost || !slices.Equal(got.Needless, []string{c.option}) {
					t.Errorf("lost %v, needless %v", got.Lost, got.Needless)
				}
			default:
				if isLost || isNeedless || c.becomes != said && !strings.Contains(string(got.YAML), c.becomes) {
					t.Errorf("lost %v, needless %v, and\n%s", got.Lost, got.Needless, got.YAML)
				}
			}
		})
	}
}

// Options that matter only beside others.
func TestOptionsMatterTogether(t *testing.T) {
	const router = "transforms.o."
	for name, c := range map[string]struct {
		options map[string]string
		lost    []string
	}{
		"nulls that are kept":         {map[string]string{router + "table.expand.json.payload": "true", router + "table.json.payload.null.behavior": "optional_bytes"}, []string{router + "table.json.payload.null.behavior"}},
		"empty arrays that are kept":  {map[string]string{router + "table.expand.json.payload": "true", router + "table.json.payload.empty.array.behavior": "optional_string"}, []string{router + "table.json.payload.empty.array.behavior"}},
		"the version of an envelope":  {map[string]string{router + "table.fields.additional.placement": "type:envelope", router + "table.field.event.schema.version": "v"}, []string{router + "table.field.event.schema.version"}},
		"a schema and no tables":      {map[string]string{"table.include.list": "", "schema.include.list": "public"}, []string{"schema.include.list"}},
		"another transform":           {map[string]string{"transforms": "o,r", "transforms.r.type": "org.apache.kafka.connect.transforms.RegexRouter", "transforms.r.regex": "x"}, []string{"transforms.r.type"}},
		"messages of any prefix":      {map[string]string{"transforms": "d,o", "transforms.d.type": "io.debezium.x.DecodeLogicalDecodingMessageContent"}, []string{"message.prefix.include.list"}},
		"messages of an expression":   {map[string]string{"transforms": "d,o", "transforms.d.type": "io.debezium.x.DecodeLogicalDecodingMessageContent", "message.prefix.include.list": "o.*"}, []string{"message.prefix.include.list"}},
		"a provider of Connect":       {map[string]string{"database.user": "${file:/etc/secret:user}"}, []string{"database.user"}},
		"a Java trust store":          {map[string]string{producer + "security.protocol": "SSL", producer + "ssl.truststore.location": "/x.jks", producer + "ssl.truststore.password": "s"}, []string{producer + "ssl.truststore.location"}},
		"another mechanism of SASL":   {map[string]string{producer + "security.protocol": "SASL_SSL", producer + "sasl.mechanism": "OAUTHBEARER", producer + "sasl.jaas.config": "x"}, []string{producer + "sasl.mechanism"}},
		"SASL without a name":         {map[string]string{producer + "security.protocol": "SASL_SSL", producer + "sasl.mechanism": "PLAIN"}, []string{producer + "sasl.jaas.config"}},
		"topics as the brokers would": {map[string]string{"topic.creation.default.partitions": "-1", "topic.creation.default.replication.factor": "3"}, []string{"topic.creation.default.partitions"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := translateWith(t, c.options); !slices.Equal(names(got.Lost), c.lost) {
				t.Errorf("lost %v, want %v", got.Lost, c.lost)
			}
		})
	}
}
