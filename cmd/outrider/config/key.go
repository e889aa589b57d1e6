package config

import (
	"strings"
	"time"
)

// key is one setting: its path in the file, and the field that it fills.
type key struct {
	path  string
	field any      // *string, *Secret, *bool, *int32, *Size, *time.Duration, *[]string or *map[string]string
	oneOf []string // the only values that a *string takes, if any
}

// keys are all settings of s, in the order of the file.
func (s *Settings) keys() []key {
	is := func(values ...string) []string { return values }
	pg, k, o := &s.Postgres, &s.Kafka, &s.Outbox
	return []key{
		{"name", &s.Name, nil},

		{"postgres.url", &pg.URL, nil},
		{"postgres.password_file", &pg.PasswordFile, nil},
		{"postgres.publication", &pg.Publication, nil},
		{"postgres.slot", &pg.Slot, nil},
		{"postgres.create", &pg.Create, nil},
		{"postgres.failover", &pg.Failover, is("auto", "false")},
		{"postgres.max_retained_wal", &pg.MaxRetainedWAL, nil},
		{"postgres.insecure", &pg.Insecure, nil},

		{"kafka.brokers", &k.Brokers, nil},
		{"kafka.client_id", &k.ClientID, nil},
		{"kafka.tls.enabled", &k.TLS.Enabled, nil},
		{"kafka.tls.ca_file", &k.TLS.CAFile, nil},
		{"kafka.tls.cert_file", &k.TLS.CertFile, nil},
		{"kafka.tls.key_file", &k.TLS.KeyFile, nil},
		{"kafka.tls.server_name", &k.TLS.ServerName, nil},
		{"kafka.tls.insecure_skip_verify", &k.TLS.InsecureSkipVerify, nil},
		{"kafka.sasl.mechanism", &k.SASL.Mechanism, is("none", "plain", "scram-sha-256", "scram-sha-512", "aws-msk-iam", "oauthbearer")},
		{"kafka.sasl.username", &k.SASL.Username, nil},
		{"kafka.sasl.password", &k.SASL.Password, nil},
		{"kafka.sasl.password_file", &k.SASL.PasswordFile, nil},
		{"kafka.sasl.token_file", &k.SASL.TokenFile, nil},
		{"kafka.sasl.extensions", &k.SASL.Extensions, nil},
		{"kafka.delivery", &k.Delivery, is("exactly-once", "at-least-once")},
		{"kafka.compression", &k.Compression, is("none", "lz4", "zstd", "snappy", "gzip")},
		{"kafka.linger", &k.Linger, nil},
		{"kafka.batch_bytes", &k.BatchBytes, nil},
		{"kafka.max_in_flight_bytes", &k.MaxInFlightBytes, nil},
		{"kafka.max_timestamp_age", &k.MaxTimestampAge, nil},
		{"kafka.topics.create", &k.Topics.Create, nil},
		{"kafka.topics.partitions", &k.Topics.Partitions, nil},
		{"kafka.topics.replication_factor", &k.Topics.ReplicationFactor, nil},
		{"kafka.topics.config", &k.Topics.Config, nil},
		{"kafka.topics.wait", &k.Topics.Wait, nil},

		{"outbox.tables", &o.Tables, nil},
		{"outbox.columns", &o.Columns, nil},
		{"outbox.topic", &o.Topic, nil},
		{"outbox.topic_regex.match", &o.TopicRegex.Match, nil},
		{"outbox.topic_regex.replace", &o.TopicRegex.Replace, nil},
		{"outbox.allowed_topics", &o.AllowedTopics, nil},
		{"outbox.key", &o.Key, nil},
		{"outbox.key_format", &o.KeyFormat, is("verbatim", "json", "json-with-schema")},
		{"outbox.headers", &o.Headers, nil},
		{"outbox.header_format", &o.HeaderFormat, is("verbatim", "json", "json-with-schema")},
		{"outbox.envelope", &o.Envelope, nil},
		{"outbox.value", &o.Value, is("verbatim", "json", "json-with-schema", "cloudevents-binary")},
		{"outbox.expand_json", &o.ExpandJSON, nil},
		{"outbox.timestamp", &o.Timestamp, is("commit", "processing")},
		{"outbox.cloudevents.source", &o.CloudEvents.Source, nil},
		{"outbox.compat", &o.Compat, is("none", "debezium")},
		{"outbox.context_headers", &o.ContextHeaders, nil},
		{"outbox.position_header", &o.PositionHeader, nil},
		{"outbox.tombstone_on_null", &o.TombstoneOnNull, nil},
		{"outbox.logical_messages.prefixes", &o.LogicalMessages.Prefixes, nil},
		{"outbox.on_poison", &o.OnPoison, is("stop", "dead_letter", "skip")},
		{"outbox.dead_letter.topic", &o.DeadLetter.Topic, nil},
		{"outbox.retention", &o.Retention, nil},

		{"checkpoint.interval", &s.Checkpoint.Interval, nil},

		{"http.listen", &s.HTTP.Listen, nil},
		{"http.token_file", &s.HTTP.TokenFile, nil},
		{"http.insecure", &s.HTTP.Insecure, nil},

		{"timeouts.drain", &s.Timeouts.Drain, nil},
		{"timeouts.broker", &s.Timeouts.Broker, nil},

		{"on_blocked", &s.OnBlocked, is("wait", "exit")},
		{"start_from", &s.StartFrom, is("slot", "beginning")},

		{"log.level", &s.Log.Level, is("debug", "info", "warn", "error")},
		{"log.format", &s.Log.Format, is("auto", "console", "json")},
	}
}

// variable is the environment variable of a setting.
func variable(path string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

const variablePrefix = "OUTRIDER_"

// wants says in words what a setting takes.
func (k *key) wants() string {
	switch k.field.(type) {
	case *bool:
		return "true or false"
	case *int32:
		return "a whole number"
	case *Size:
		return "a size such as 16MiB"
	case *time.Duration:
		return "a duration such as 30s"
	case *[]string:
		return "a list such as [a, b]"
	case *map[string]string:
		return "a map such as {a: b}"
	}
	if k.oneOf != nil {
		return oneOf(k.oneOf)
	}
	return "a text"
}

// oneOf joins values: "a", "a or b", "a, b or c".
func oneOf(values []string) string {
	last := len(values) - 1
	if last < 1 {
		return strings.Join(values, "")
	}
	return strings.Join(values[:last], ", ") + " or " + values[last]
}
