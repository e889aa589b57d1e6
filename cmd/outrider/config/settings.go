// Package config reads the relay's settings from a file, the environment and flags.
package config

import "time"

// Settings is everything that can be set, shaped as the YAML file is. Load fills it.
type Settings struct {
	Name       string // relay identity: default slot, checkpoint row, position header; unique on its Kafka cluster
	Postgres   Postgres
	Kafka      Kafka
	Outbox     Outbox
	Checkpoint Checkpoint
	HTTP       HTTP
	Timeouts   Timeouts
	OnBlocked  string // wait (stay up, not ready) or exit
	StartFrom  string // at the first start only: slot or beginning
	Log        Log
}

// Postgres is the database to follow.
type Postgres struct {
	URL            Secret // a libpq URL or DSN, which may hold a password; PG* environment honoured
	PasswordFile   string // overrides the URL's password; read at every dial
	Publication    string
	Slot           string // default outrider_<name>
	Create         bool   // create a missing publication and slot, only at the very first start
	Failover       string // auto: a new slot follows a promotion on PostgreSQL 17 and later; false: never
	MaxRetainedWAL Size   // alarm when the slot holds back more; 0: 80 % of max_slot_wal_keep_size where that is set
	Insecure       bool   // allow a connection off loopback that is not verify-full
}

// Kafka is where events go.
type Kafka struct {
	Brokers          []string // host:port
	ClientID         string   // default outrider-<name>
	TLS              TLS
	SASL             SASL
	Delivery         string // exactly-once or at-least-once
	Compression      string // none, lz4, zstd, snappy or gzip
	Linger           time.Duration
	BatchBytes       Size // at most what the topics accept
	MaxInFlightBytes Size
	MaxTimestampAge  time.Duration // an older commit time is sent as now
	Topics           Topics
}

// TLS is how brokers are trusted and how the relay shows who it is. The files are read again at every dial.
type TLS struct {
	Enabled            bool
	CAFile             string // empty: the system's roots
	CertFile, KeyFile  string
	ServerName         string // empty: the host that is dialled
	InsecureSkipVerify bool
}

// SASL is how the relay authenticates to the brokers.
type SASL struct {
	Mechanism    string // none, plain, scram-sha-256, scram-sha-512, aws-msk-iam or oauthbearer
	Username     string
	Password     Secret
	PasswordFile string // read at every dial
	TokenFile    string // read at every dial
}

// Topics says what happens to topics that do not exist.
type Topics struct {
	Create            bool
	Partitions        int32
	ReplicationFactor int32
	Config            map[string]string // topic settings, e.g. retention.ms
	Wait              time.Duration     // how long an unknown or forbidden topic is waited for before its rows are poison
}

// Outbox says which rows are events, and how a row becomes a record.
type Outbox struct {
	Tables          []string          // schema.table, as published; empty: all tables of the publication
	Columns         map[string]string // role -> column, where detection is to be overridden
	Topic           string            // template over the row; empty: by the table's columns
	TopicRegex      TopicRegex
	AllowedTopics   []string // names or prefix*; empty: whatever the template yields
	Key             string   // template over the row, or none; empty: by the table's columns
	KeyFormat       string   // verbatim, json or json-with-schema; empty: verbatim, with compat debezium as value
	Headers         []string // column or column:alias
	HeaderFormat    string   // verbatim, json or json-with-schema
	Envelope        []string // column or column:alias; not empty: the value is an object of these and the payload
	Value           string   // verbatim, json, json-with-schema or cloudevents-binary
	ExpandJSON      bool     // a payload of JSON is written anew, as Debezium's router does it
	Timestamp       string   // commit or processing; a column, where columns names one
	CloudEvents     CloudEvents
	Compat          string            // none or debezium
	ContextHeaders  map[string]string // of Debezium's connector: connectorLogicalName, taskId, connectorName, runId
	PositionHeader  bool              // false only with at-least-once
	TombstoneOnNull bool              // default with compat debezium: false
	LogicalMessages LogicalMessages
	OnPoison        string // stop, dead_letter or skip
	DeadLetter      DeadLetter
	Retention       time.Duration // 0: never delete
}

// TopicRegex rewrites a topic.
type TopicRegex struct{ Match, Replace string }

// CloudEvents says what the columns do not.
type CloudEvents struct {
	Source string // template over the row; empty: /outrider/<name>
}

// LogicalMessages are events that were emitted without a table.
type LogicalMessages struct{ Prefixes []string }

// DeadLetter is where poison rows go under that policy.
type DeadLetter struct{ Topic string }

// Checkpoint says how often progress is saved.
type Checkpoint struct{ Interval time.Duration }

// HTTP is the admin endpoint.
type HTTP struct {
	Listen    string // host:port; empty turns it off
	TokenFile string // read at every request; asked for by the page and /status
	Insecure  bool   // the page and /status without a token, also off loopback
}

// Timeouts bound what is waited for.
type Timeouts struct {
	Drain  time.Duration // delivery of what is in flight after a stop was asked for
	Broker time.Duration // dialling a broker, and each request
}

// Log says what is logged, and how.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // console, json or auto: console on a terminal, json otherwise
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
