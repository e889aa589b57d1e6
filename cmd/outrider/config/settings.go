// Package config reads the relay's settings from a file, the environment and flags.
package config

import "time"

// Settings is everything that can be set, shaped as the YAML file is. Load fills it.
type Settings struct {
	Name       string // required; 1 to 40 of a-z, 0-9 and _. The relay's identity: slot, checkpoint row, transactional id, positions; unique on its Kafka cluster
	Postgres   Postgres
	Kafka      Kafka
	Outbox     Outbox
	Checkpoint Checkpoint
	HTTP       HTTP
	Timeouts   Timeouts
	OnBlocked  string // what a relay does that waits for a person's decision: wait stays up, not ready; exit ends with 20, 21 or 22
	StartFrom  string // where the very first start begins
	Log        Log
}

// Postgres is the database to follow.
type Postgres struct {
	URL            Secret // required, unless PGHOST or PGSERVICE is set; a libpq URL or DSN, which may hold a password. PG* variables are honoured
	PasswordFile   string // holds the password, in place of the URL's; read at every dial
	Publication    string // names what is streamed
	Slot           string // the replication slot, which belongs to this relay alone
	Create         bool   // create a missing publication and slot, only at the very first start
	Failover       string // auto: a slot that the relay makes follows a promotion, on PostgreSQL 17 and later; false: never
	MaxRetainedWAL Size   // alarm when the slot holds back more WAL; 0: 80 % of max_slot_wal_keep_size where that is set
	Insecure       bool   // allow a connection off loopback that is not verify-full
}

// Kafka is where events go.
type Kafka struct {
	Brokers          []string // required; host:port of some brokers, which tell of the others
	ClientID         string   // what the brokers' logs and quotas know the relay by
	TLS              TLS
	SASL             SASL
	Delivery         string        // the promise to keep: see delivery.md
	Compression      string        // of record batches
	Linger           time.Duration // how long a batch waits for more; 0: batches grow by themselves while a request is under way
	BatchBytes       Size          // largest batch before compression; at most what the topics accept (max.message.bytes)
	MaxInFlightBytes Size          // appended and not acked; where it is used up, the stream is read no further
	MaxTimestampAge  time.Duration // an older commit time is sent as now, and told in header outrider-commit-time
	Topics           Topics
}

// TLS is how brokers are trusted and how the relay shows who it is. The files are read again at every dial.
type TLS struct {
	Enabled            bool   // speak TLS to the brokers
	CAFile             string // PEM; empty: the system's roots
	CertFile, KeyFile  string // PEM; the relay's own certificate and its key, where brokers ask for one
	ServerName         string // that certificates must have; empty: the host that is dialled
	InsecureSkipVerify bool   // take any certificate: encryption without knowing with whom
}

// SASL is how the relay authenticates to the brokers.
type SASL struct {
	Mechanism    string            // how the relay says who it is
	Username     string            // with plain and scram
	Password     Secret            // with plain and scram; this or the file
	PasswordFile string            // holds the password; read at every dial
	TokenFile    string            // holds the token of oauthbearer; read at every dial
	Extensions   map[string]string // what a broker asks for beside the token of oauthbearer, e.g. logicalCluster and identityPoolId (Confluent Cloud)
}

// Topics says what happens to topics that do not exist.
type Topics struct {
	Create            bool              // make a topic with its first row; else its rows wait
	Partitions        int32             // of a topic that the relay makes
	ReplicationFactor int32             // of a topic that the relay makes
	Config            map[string]string // further settings of such a topic, e.g. retention.ms
	Wait              time.Duration     // how long an unknown or forbidden topic is waited for before its rows are poison
}

// Outbox says which rows are events, and how a row becomes a record.
type Outbox struct {
	Tables          []string          // schema.table, as published; empty: all tables of the publication
	Columns         map[string]string // role: column, or schema.table.role: column for one table, where a column is not found by its name. Roles: id, aggregate_type, aggregate_id, event_type, payload, headers, timestamp, topic, key, partition
	Topic           string            // template over the row, e.g. shop.${aggregate_type}; empty: by the table's columns
	TopicRegex      TopicRegex
	AllowedTopics   []string // names or prefix*: a row for another topic is poison; empty: whatever the template yields
	Key             string   // template over the row, or none; empty: by the table's columns
	KeyFormat       string   // empty: verbatim, with compat debezium as value
	Headers         []string // columns that become headers: column or column:alias
	HeaderFormat    string   // of headers
	Envelope        []string // columns beside the payload, as column or column:alias: the value becomes an object of all of them
	Value           string   // format of the value; verbatim is the payload byte for byte
	ExpandJSON      bool     // a payload of JSON is written anew, as Debezium's router does it
	Timestamp       string   // of a record: of the commit or of processing; a column, where columns names one
	CloudEvents     CloudEvents
	Compat          string            // debezium: records as Debezium's outbox event router makes them, see debezium.md
	ContextHeaders  map[string]string // of Debezium's connector: connectorLogicalName, taskId, connectorName, runId
	PositionHeader  bool              // header outrider-position; false only with at-least-once, since a restart reads it
	TombstoneOnNull bool              // a payload of NULL becomes a record without a value; false unless set with compat debezium
	LogicalMessages LogicalMessages
	OnPoison        string // what becomes of an event that cannot be delivered: the relay stops, it goes to the dead-letter topic, or it is left out
	DeadLetter      DeadLetter
	Retention       time.Duration // delivered rows older than this are deleted from the table, or dropped with their partitions; 0: never
}

// TopicRegex rewrites a topic.
type TopicRegex struct {
	Match   string // Java's expression over all of the text, as far as RE2 has it
	Replace string // with $1, ${name}
}

// CloudEvents says what the columns do not.
type CloudEvents struct {
	Source string // the attribute source, a template over the row; empty: /outrider/<name>
}

// LogicalMessages are events that were emitted without a table.
type LogicalMessages struct {
	Prefixes []string // of pg_logical_emit_message, whose transactional messages are events
}

// DeadLetter is where poison rows go under that policy.
type DeadLetter struct {
	Topic string // with outbox.on_poison: dead_letter, and for what outrider resolve --dead-letter sends
}

// Checkpoint says how often progress is saved.
type Checkpoint struct {
	Interval time.Duration // between two saves; what was delivered since the last one is what a restart looks for
}

// HTTP is the admin endpoint.
type HTTP struct {
	Listen    string // host:port of the page, /status, /metrics, /readyz and /healthz; empty turns it off
	TokenFile string // holds the token that the page and /status ask for, and on another address than loopback need; read at every request
	Insecure  bool   // the page and /status without a token, also off loopback
}

// Timeouts bound what is waited for.
type Timeouts struct {
	Drain  time.Duration // for the delivery of what is in flight after a stop was asked for
	Broker time.Duration // for dialling a broker, and for each request
}

// Log says what is logged, and how.
type Log struct {
	Level  string // the least that is logged
	Format string // auto: console on a terminal, json otherwise
}

// defaults are what holds where nothing is set. Slot and client id follow the name; see complete.
func defaults() *Settings {
	return &Settings{
		Postgres: Postgres{Publication: "outrider", Create: true, Failover: "auto"},
		Kafka: Kafka{
			SASL:             SASL{Mechanism: "none"},
			Delivery:         "exactly-once",
			Compression:      "none",
			BatchBytes:       1 << 20,
			MaxInFlightBytes: 16 << 20,
			MaxTimestampAge:  time.Hour,
			Topics:           Topics{Partitions: 6, ReplicationFactor: 3, Wait: time.Minute},
		},
		Outbox: Outbox{
			Tables: []string{"public.outbox"}, HeaderFormat: "verbatim", Value: "verbatim", Timestamp: "commit", Compat: "none", PositionHeader: true, TombstoneOnNull: true,
			OnPoison: "stop", DeadLetter: DeadLetter{Topic: "outrider.dead-letter"},
		},
		Checkpoint: Checkpoint{Interval: time.Second},
		HTTP:       HTTP{Listen: "127.0.0.1:9187"},
		Timeouts:   Timeouts{Drain: 30 * time.Second, Broker: 30 * time.Second},
		OnBlocked:  "wait",
		StartFrom:  "slot",
		Log:        Log{Level: "info", Format: "auto"},
	}
}

// complete fills what defaults to something made from the name.
func (s *Settings) complete() {
	if s.Postgres.Slot == "" && s.Name != "" {
		s.Postgres.Slot = "outrider_" + s.Name
	}
	if s.Kafka.ClientID == "" && s.Name != "" {
		s.Kafka.ClientID = "outrider-" + s.Name
	}
}
