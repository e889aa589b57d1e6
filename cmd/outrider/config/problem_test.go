package config

import (
	"strings"
	"testing"
)

// lines is what a list of problems prints as.
func lines(l ...string) string { return strings.Join(l, "\n") }

func TestProblemsNamePlaceKeyAndWayOut(t *testing.T) {
	for _, c := range []struct {
		about   string
		file    string
		environ []string // besides least
		flags   []Flag
		want    string
	}{
		{"an unknown key", "kafka:\n  broker: [a:1]\n", nil, nil, "outrider.yaml:2: kafka.broker: unknown key; the nearest is kafka.brokers"},
		{"an unknown section", "kafak:\n  brokers: [a:1]\n", nil, nil, "outrider.yaml:1: kafak: unknown key; the nearest is kafka"},
		{"a key of another section", "brokers: [a:1]\n", nil, nil, "outrider.yaml:1: brokers: unknown key; the nearest is kafka.brokers"},
		{"a name that others have", "kafka:\n  acks: all\npostgres: {host: db}\n", nil, nil, lines(
			"outrider.yaml:2: kafka.acks: unknown key; the nearest is kafka.delivery",
			"outrider.yaml:3: postgres.host: unknown key; the nearest is postgres.url",
		)},
		{"an unknown variable", "", []string{"OUTRIDER_KAFKA_BROKER=a:1"}, nil, "OUTRIDER_KAFKA_BROKER: no setting has this variable; the nearest is OUTRIDER_KAFKA_BROKERS"},
		{"an unknown variable without its section", "", []string{"OUTRIDER_PUBLICATION=p"}, nil, "OUTRIDER_PUBLICATION: no setting has this variable; the nearest is OUTRIDER_POSTGRES_PUBLICATION"},
		{"a key set twice", "name: a\nkafka: {linger: 1ms}\nname: b\n", nil, nil, "outrider.yaml:3: name: set a second time; first in line 1"},
		{"a broken document", "name: a\nkafka: b: c\n", nil, nil, "outrider.yaml:2: not YAML: mapping value is not allowed in this context"},
		{"a second document", "name: a\n---\nname: b\n", nil, nil, "outrider.yaml:3: a second document; the settings are one"},
		{"a list for a document", "- name\n", nil, nil, "outrider.yaml:1: settings are expected here, as key: value"},
		{"a value for a section", "kafka: localhost:9092\n", nil, nil, "outrider.yaml:1: kafka: settings are expected here, as key: value"},
		{"a map for a value", "name: {a: b}\n", nil, nil, "outrider.yaml:1: name: wants a text"},
		{"a text for a list", "kafka: {brokers: 'a:1'}\n", nil, nil, "outrider.yaml:1: kafka.brokers: wants a list such as [a, b]"},
		{"a list for a map", "outbox: {columns: [a]}\n", nil, nil, "outrider.yaml:1: outbox.columns: wants a map such as {a: b}"},
		{"a list in a list", "kafka:\n  brokers:\n    - a:1\n    - [b]\n", nil, nil, "outrider.yaml:4: kafka.brokers[1]: wants a text"},
		{"a map in a list", "kafka: {brokers: [a: 1]}\n", nil, nil, "outrider.yaml:1: kafka.brokers[0]: wants a text"},
		{"an anchor", "name: &n orders\n", nil, nil, "outrider.yaml:1: name: anchors, aliases and tags are not read: write the value itself"},
		{"no boolean", "postgres: {create: yes}\n", nil, nil, `outrider.yaml:1: postgres.create: "yes" is not true or false`},
		{"no number", "", []string{"OUTRIDER_KAFKA_TOPICS_PARTITIONS=six"}, nil, `OUTRIDER_KAFKA_TOPICS_PARTITIONS: kafka.topics.partitions: "six" is not a whole number`},
		{"a number too large", "kafka: {topics: {partitions: 3000000000}}\n", nil, nil, `outrider.yaml:1: kafka.topics.partitions: "3000000000" is not a whole number`},
		{"no size", "kafka: {batch_bytes: 1Mib}\n", nil, nil, `outrider.yaml:1: kafka.batch_bytes: "1Mib" is not a size such as 16MiB`},
		{"a size too large", "kafka: {batch_bytes: 9000000000TiB}\n", nil, nil, `outrider.yaml:1: kafka.batch_bytes: "9000000000TiB" is not a size such as 16MiB`},
		{"no duration", "kafka: {linger: 5}\n", nil, nil, `outrider.yaml:1: kafka.linger: "5" is not a duration such as 30s`},
		{"a negative duration", "kafka: {linger: -5ms}\n", nil, nil, `outrider.yaml:1: kafka.linger: "-5ms" is not a duration such as 30s`},
		{"half a day", "outbox: {retention: 0.5d}\n", nil, nil, `outrider.yaml:1: outbox.retention: "0.5d" is not a duration such as 30s`},
		{"hours before days", "outbox: {retention: 1h2d}\n", nil, nil, `outrider.yaml:1: outbox.retention: "1h2d" is not a duration such as 30s`},
		{"none of the choices", "", nil, []Flag{{"delivery", "kafka.delivery", "maybe"}}, `--delivery: kafka.delivery: "maybe" is not exactly-once or at-least-once`},
		{"no name=value", "", []string{"OUTRIDER_KAFKA_TOPICS_CONFIG=cleanup.policy=compact,delete"}, nil, `OUTRIDER_KAFKA_TOPICS_CONFIG: kafka.topics.config: "delete" is not name=value; a value that holds a comma must be set in the file`},
		{"a variable that is not set", "kafka: {client_id: '${env:NONE}'}\n", nil, nil, "outrider.yaml:1: kafka.client_id: environment variable NONE, which ${env:NONE} names, is not set"},
		{"a variable that is not closed", "kafka: {client_id: '${env:NONE'}\n", nil, nil, "outrider.yaml:1: kafka.client_id: ${env: has no closing }"},

		{"a name with other letters", "", nil, []Flag{{"name", "name", "my-orders"}}, `--name: name: "my-orders" is not 1 to 40 of a-z, 0-9 and _`},
		{"a slot with other letters", "postgres: {slot: Orders}\n", nil, nil, `outrider.yaml:1: postgres.slot: "Orders" is not 1 to 63 of a-z, 0-9 and _`},
		{"no publication", "postgres: {publication: ''}\n", nil, nil, "outrider.yaml:1: postgres.publication: required"},
		{"no broker port", "", []string{"OUTRIDER_KAFKA_BROKERS=a,b:0"}, nil, lines(
			`OUTRIDER_KAFKA_BROKERS: kafka.brokers: "a" is not host:port`,
			`OUTRIDER_KAFKA_BROKERS: kafka.brokers: "b:0" is not host:port`,
		)},
		{"an unreadable URL", "", nil, []Flag{{"postgres", "postgres.url", "postgres://u:p@[::1"}}, "--postgres: postgres.url: not a libpq URL or DSN that can be read; special characters in a password must be percent-encoded in a URL, or set postgres.password_file"},
		{"a wrong sslmode", "", nil, []Flag{{"postgres", "postgres.url", "host=db sslmode=on"}}, "--postgres: postgres.url: TLS cannot be set up as it says (sslmode is invalid)"},
		{"batches larger than what may be in flight", "kafka: {max_in_flight_bytes: 64KiB}\n", nil, nil, "outrider.yaml:1: kafka.max_in_flight_bytes: must be at least kafka.batch_bytes"},
		{"tiny batches", "kafka: {batch_bytes: 0}\n", nil, nil, "outrider.yaml:1: kafka.batch_bytes: must be from 1KiB to 2GiB"},
		{"no partitions", "kafka: {topics: {partitions: 0, replication_factor: 40000, wait: 0}}\n", nil, nil, lines(
			"outrider.yaml:1: kafka.topics.partitions: must be at least 1",
			"outrider.yaml:1: kafka.topics.replication_factor: must be from 1 to 32767",
			"outrider.yaml:1: kafka.topics.wait: must be more than 0",
		)},
		{"TLS files without TLS", "kafka: {tls: {ca_file: ca.pem, insecure_skip_verify: true}}\n", nil, nil, lines(
			"outrider.yaml:1: kafka.tls.ca_file: has no effect without kafka.tls.enabled: true",
			"outrider.yaml:1: kafka.tls.insecure_skip_verify: has no effect without kafka.tls.enabled: true",
		)},
		{"half a key pair", "kafka: {tls: {enabled: true, cert_file: outrider.yaml}}\n", nil, nil, "outrider.yaml:1: kafka.tls.cert_file: kafka.tls.cert_file and kafka.tls.key_file are set together or not at all"},
		{"a file that is not there", "kafka: {tls: {enabled: true, ca_file: ca.pem}}\n", nil, nil, "outrider.yaml:1: kafka.tls.ca_file: stat ca.pem: no such file or directory"},
		{"a user without SASL", "kafka: {sasl: {username: u}}\n", nil, nil, "outrider.yaml:1: kafka.sasl.username: has no effect without kafka.sasl.mechanism"},
		{"SASL without a user", "kafka: {sasl: {mechanism: plain}}\n", nil, nil, lines(
			"kafka.sasl.username: required by kafka.sasl.mechanism plain",
			"kafka.sasl.password_file: required by kafka.sasl.mechanism plain (or kafka.sasl.password)",
		)},
		{"two passwords", "kafka: {sasl: {mechanism: plain, username: u, password: p, password_file: outrider.yaml}}\n", nil, nil, "outrider.yaml:1: kafka.sasl.password_file: set this or kafka.sasl.password, not both"},
		{"a token without its mechanism", "kafka: {sasl: {mechanism: plain, username: u, password: p, token_file: outrider.yaml, extensions: {a: b}}}\n", nil, nil, lines(
			"outrider.yaml:1: kafka.sasl.token_file: has no effect with kafka.sasl.mechanism plain",
			"outrider.yaml:1: kafka.sasl.extensions: has no effect with kafka.sasl.mechanism plain",
		)},
		{"OAUTHBEARER without a token", "kafka: {sasl: {mechanism: oauthbearer, username: u}}\n", nil, nil, lines(
			"outrider.yaml:1: kafka.sasl.username: has no effect with kafka.sasl.mechanism oauthbearer",
			"kafka.sasl.token_file: required by kafka.sasl.mechanism oauthbearer",
		)},
		{"a token that is not there", "kafka: {sasl: {mechanism: oauthbearer, token_file: token}}\n", nil, nil, "outrider.yaml:1: kafka.sasl.token_file: stat token: no such file or directory"},
		{"extensions that are none", "kafka: {sasl: {mechanism: oauthbearer, token_file: outrider.yaml, extensions: {auth: a, pool_id: b, ok: c}}}\n", nil, nil, lines(
			`outrider.yaml:1: kafka.sasl.extensions: "auth" is no name of an extension (KIP-342): letters alone, and not auth`,
			`outrider.yaml:1: kafka.sasl.extensions: "pool_id" is no name of an extension (KIP-342): letters alone, and not auth`,
		)},
		{"MSK with a password and in the clear", "kafka: {sasl: {mechanism: aws-msk-iam, password: p}}\n", nil, nil, lines(
			"outrider.yaml:1: kafka.sasl.password: has no effect with kafka.sasl.mechanism aws-msk-iam, whose credentials are found as AWS documents it",
			"kafka.tls.enabled: required by kafka.sasl.mechanism aws-msk-iam: MSK has no other listener for it",
		)},
		{"a table without schema", "outbox: {tables: [outbox]}\n", nil, nil, `outrider.yaml:1: outbox.tables: "outbox" has no schema: write schema.table, e.g. public.outbox`},
		{"an unknown role", "outbox:\n  columns:\n    id: uid\n    paylaod: body\n", nil, nil, "outrider.yaml:4: outbox.columns.paylaod: unknown role; the nearest is payload (or schema.table.role, for one table alone)"},
		{"a role without column", "", []string{"OUTRIDER_OUTBOX_COLUMNS=id="}, nil, "OUTRIDER_OUTBOX_COLUMNS: outbox.columns.id: names no column"},
		{"an empty prefix", "outbox: {logical_messages: {prefixes: [orders, '']}}\n", nil, nil, "outrider.yaml:1: outbox.logical_messages.prefixes: an empty prefix is none"},
		{"wild cards inside", "outbox: {allowed_topics: ['a*b', '__x', 'ok*', '*']}\n", nil, nil, lines(
			`outrider.yaml:1: outbox.allowed_topics: "a*b" is neither a topic nor a prefix that ends in *`,
			`outrider.yaml:1: outbox.allowed_topics: "__x": topics that begin with __ are internal to Kafka and are never written`,
		)},
		{"headers", "outbox: {headers: ['a', 'a:b', 'a:', 'a:outrider-x']}\n", nil, nil, lines(
			`outrider.yaml:1: outbox.headers: "a:" is neither column nor column:alias`,
			`outrider.yaml:1: outbox.headers: "a:outrider-x": names that begin with outrider- are the relay's own`,
		)},
		{"an envelope", "outbox: {envelope: ['a:']}\n", nil, nil, `outrider.yaml:1: outbox.envelope: "a:" is neither column nor column:alias`},
		{"a role of half a table", "outbox: {columns: {outbox.payload: body}}\n", nil, nil, "outrider.yaml:1: outbox.columns.outbox.payload: unknown role; the nearest is payload (or schema.table.role, for one table alone)"},
		{"templates and expressions", "outbox:\n  topic: a.${b\n  key: ${}\n  topic_regex: {match: 'a(?=b)', replace: x}\n", nil, nil, lines(
			"outrider.yaml:2: outbox.topic: ${b is not a column reference: write ${column}",
			"outrider.yaml:3: outbox.key: ${} is not a column reference: write ${column}",
			`outrider.yaml:4: outbox.topic_regex.match: "(?=": invalid or unsupported Perl syntax; what Java has beyond RE2 (lookaround, backreferences, possessive quantifiers, atomic groups) is not supported`,
		)},
		{"a replacement without its group", "outbox: {topic_regex: {match: '(a)', replace: 'x$2'}}\n", nil, nil, `outrider.yaml:1: outbox.topic_regex.replace: $2 is no group of outbox.topic_regex.match, which has 1: write \$ for the character`},
		{"half a regex", "outbox: {topic_regex: {match: '(a)'}}\n", nil, nil, "outbox.topic_regex.replace: required: what becomes of a match"},
		{"formats that are none", "outbox: {value: xml, key_format: cloudevents-binary, header_format: x, timestamp: broker}\n", nil, nil, lines(
			`outrider.yaml:1: outbox.value: "xml" is not verbatim, json, json-with-schema or cloudevents-binary`,
			`outrider.yaml:1: outbox.key_format: "cloudevents-binary" is not verbatim, json or json-with-schema`,
			`outrider.yaml:1: outbox.header_format: "x" is not verbatim, json or json-with-schema`,
			`outrider.yaml:1: outbox.timestamp: "broker" is not commit or processing`,
		)},
		{"what contradicts", "outbox: {value: cloudevents-binary, compat: debezium}\n", nil, nil, "outrider.yaml:1: outbox.value: Debezium's router makes no CloudEvents: cloudevents-binary does not go with outbox.compat: debezium"},
		{"what has no effect", "outbox: {expand_json: true, cloudevents: {source: x}, context_headers: {taskId: 0}}\n", nil, nil, lines(
			"outrider.yaml:1: outbox.expand_json: has no effect with outbox.value: verbatim; use json or json-with-schema",
			"outrider.yaml:1: outbox.cloudevents.source: has no effect without outbox.value: cloudevents-binary",
			"outrider.yaml:1: outbox.context_headers: has no effect without outbox.compat: debezium",
		)},
		{"a listen address without port", "http: {listen: 127.0.0.1}\n", nil, nil, `outrider.yaml:1: http.listen: "127.0.0.1" is not host:port; "" turns the endpoint off`},
		{"no drain", "timeouts: {drain: 0}\n", nil, nil, "outrider.yaml:1: timeouts.drain: must be more than 0"},
		{"everything at once, in the order of the file", "kafka:\n  brokers: [a]\n  lingr: 1ms\n  linger: 1\npostgres:\n  slot: A\n", []string{"OUTRIDER_HTTP_LISTEN=x", "OUTRIDER_X=1"}, []Flag{{"name", "name", "N"}}, lines(
			"outrider.yaml:3: kafka.lingr: unknown key; the nearest is kafka.linger",
			`outrider.yaml:4: kafka.linger: "1" is not a duration such as 30s`,
			`outrider.yaml:6: postgres.slot: "A" is not 1 to 63 of a-z, 0-9 and _`,
			"OUTRIDER_X: no setting has this variable; the nearest is OUTRIDER_NAME",
			`--name: name: "N" is not 1 to 40 of a-z, 0-9 and _`,
			`OUTRIDER_HTTP_LISTEN: http.listen: "x" is not host:port; "" turns the endpoint off`,
		)},
	} {
		t.Run(c.about, func(t *testing.T) {
			in(t, c.file)
			_, err := Sources{Environ: append(append([]string{}, least...), c.environ...), Flags: c.flags}.Load()
			if err == nil {
				t.Fatalf("accepted; want\n%s", c.want)
			}
			if err.Error() != c.want {
				t.Errorf("got\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

func TestRequiredSettingsAreAskedForTogether(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := Sources{}.Load()
	want := lines(
		"name: required: it names the relay, its slot and its checkpoint",
		"postgres.url: required, e.g. postgres://relay@localhost:5432/shop",
		"kafka.brokers: required, e.g. [localhost:9092]",
	)
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestWhatIsNotBuiltIsRefused(t *testing.T) {
	for _, c := range []struct{ variable, want string }{
		{"START_FROM=beginning", "start_from: beginning is not built yet in this version: use slot"},
	} {
		name, _, _ := strings.Cut(c.variable, "=")
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			_, err := Sources{Environ: append(append([]string{}, least...), "OUTRIDER_"+c.variable)}.Load()
			if want := "OUTRIDER_" + name + ": " + c.want; err == nil || err.Error() != want {
				t.Errorf("got\n%v\nwant\n%s", err, want)
			}
		})
	}
}

func TestConnectionOffThisMachineMustBeVerified(t *testing.T) {
	for _, c := range []struct {
		url     string
		exposed string // the host that is complained about; empty: none
	}{
		{"postgres://u@localhost/d", ""},
		{"postgres://u@127.8.8.8/d", ""},
		{"postgres://u@[::1]/d", ""},
		{"host=/run/postgresql", ""},
		{"postgres://u@db/d?sslmode=verify-full", ""},
		{"postgres://u@db/d", "db"},
		{"postgres://u@db/d?sslmode=disable", "db"},
		{"postgres://u@db/d?sslmode=prefer", "db"},
		{"postgres://u@db/d?sslmode=require", "db"},
		{"postgres://u@db/d?sslmode=verify-ca", "db"},
		{"postgres://u@localhost,db/d", "db"},
		{"postgres://u@10.0.0.1/d", "10.0.0.1"},
	} {
		t.Run(c.url, func(t *testing.T) {
			t.Chdir(t.TempDir())
			environ := []string{least[0], least[2], "OUTRIDER_POSTGRES_URL=" + c.url}
			_, err := Sources{Environ: environ}.Load()
			want := ""
			if c.exposed != "" {
				want = "OUTRIDER_POSTGRES_URL: postgres.url: " + c.exposed + " is not on this machine, and the connection to it is not verified: " +
					"add sslmode=verify-full (and sslrootcert) to the URL, or set postgres.insecure: true if the network is trusted"
			}
			if got := errorText(err); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if _, err := (Sources{Environ: append(environ, "OUTRIDER_POSTGRES_INSECURE=true")}).Load(); err != nil {
				t.Errorf("insecure: %v", err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSizesAndDurations(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "1024": 1024, "512B": 512, "64KiB": 64 << 10, "16MiB": 16 << 20, "2 GiB": 2 << 30, "1TiB": 1 << 40, "5kB": 5000, "3MB": 3e6, "1GB": 1e9} {
		if got, err := parseSize(text); got != want || err != nil {
			t.Errorf("%s is %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "1m", "9223372036854775807KiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is read as %d", text, got)
		}
	}
}

func TestDistanceIsLevenshteins(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"broker", "brokers", 1}, {"kafak", "kafka", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) is %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestCommandDoesWithoutWhatItSpares(t *testing.T) {
	s, err := Sources{Environ: []string{"OUTRIDER_NAME=orders"}, Spare: []string{"postgres.url", "kafka.brokers"}}.Load()
	if err != nil || s.Postgres.Slot != "outrider_orders" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := (Sources{Environ: []string{"OUTRIDER_KAFKA_BROKERS=nowhere"}, Spare: []string{"postgres.url", "kafka.brokers", "name"}}).Load(); err == nil || !strings.Contains(err.Error(), "kafka.brokers") || !strings.Contains(err.Error(), "name: required") {
		t.Errorf("what is wrong, or cannot be spared: %v", err)
	}
}
