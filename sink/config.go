// Package sink delivers outbox events to Kafka: it appends the record of each event, which package route makes, to its
// partition's batch, sends batches to the partitions' leaders, and tells which events are acked.
package sink

import (
	"time"

	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/sink/broker"
	"github.com/outrider-relay/outrider/sink/record"
	"github.com/outrider-relay/outrider/sink/route"
)

// Config says where events go and how. Zero values mean the defaults named at each field.
type Config struct {
	// Name is the relay's identity; it begins every position header.
	Name string
	// Brokers are host:port addresses to bootstrap from.
	Brokers []string
	// Conn is how a broker is dialled; its Timeout is also each request's.
	Conn broker.Config
	// Compression of record batches.
	Compression record.Compression
	// Linger lets a batch wait for more rows even when nothing is in flight. Zero: send at once.
	Linger time.Duration
	// BatchBytes bounds one record batch. Zero: 1 MiB. A larger row travels alone.
	BatchBytes int
	// MaxInFlightBytes bounds the memory of all batches, open and unacked. Zero: 16 MiB.
	MaxInFlightBytes int64
	// MaxTimestampAge is the age at which a record is stamped with the present instead of its commit time. Zero: 1 h.
	MaxTimestampAge time.Duration
	// Topics says what happens to topics that do not exist.
	Topics Topics
	// Routing turns a row into topic, key, value and headers.
	Routing route.Settings
	// OnPoison is what becomes of an event that cannot be routed, encoded or accepted.
	OnPoison Policy
	// DeadLetter is the topic of dead letters. Empty: outrider.dead-letter.
	DeadLetter string
	// Decided is what a person decided about single events, by position ("timeline:LSN:ordinal"), whatever OnPoison says.
	Decided map[string]Policy
	// Ledger, where it is not nil, makes delivery exactly-once: it keeps what a restart needs to know which events Kafka has.
	Ledger Ledger
	// RenewInterval is the time between two empty transactions, which keep the brokers' memory of this producer alive. Zero: 6 h.
	RenewInterval time.Duration
	// Stats counts over all sessions of a process.
	Stats *Stats
	// Log is told of state changes: topics that are missing, brokers that are away, rows skipped by policy.
	Log zerolog.Logger
}

// Topics says what happens to topics that do not exist.
type Topics struct {
	Create            bool
	Partitions        int32             // Zero: 6.
	ReplicationFactor int16             // Zero: 3.
	Config            map[string]string // topic settings, e.g. retention.ms
	// Wait is how long an unknown or forbidden topic is waited for before its rows are poison, under Skip and DeadLetter.
	// Under Stop, and for the topic of the dead letters itself, it is waited for without end: somebody may be fixing it. Zero: 1 min.
	Wait time.Duration
}

// Policy is what becomes of a poison row.
type Policy string

const (
	Stop Policy = "stop" // the relay blocks; nothing after the row is confirmed
	Skip Policy = "skip" // counted and logged with its position
	// DeadLetter sends it to another topic, with the reason; only that topic's ack counts as its ack, and until then
	// nothing passes it in its partition.
	DeadLetter Policy = "dead_letter"
)

func (c *Config) setDefaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.MaxTimestampAge, time.Hour)
	set(&c.Topics.Wait, time.Minute)
	set(&c.Conn.Timeout, 30*time.Second)
	set(&c.RenewInterval, renewInterval)
	if c.BatchBytes == 0 {
		c.BatchBytes = 1 << 20
	}
	if c.MaxInFlightBytes == 0 {
		c.MaxInFlightBytes = 16 << 20
	}
	if c.Topics.Partitions == 0 {
		c.Topics.Partitions = 6
	}
	if c.Topics.ReplicationFactor == 0 {
		c.Topics.ReplicationFactor = 3
	}
	if c.OnPoison == "" {
		c.OnPoison = Stop
	}
	if c.DeadLetter == "" {
		c.DeadLetter = "outrider.dead-letter"
	}
	if c.Stats == nil {
		c.Stats = NewStats()
	}
}
