// Package cdc follows an outbox through a logical replication slot and relays it: it reads and decodes the
// stream, numbers the events, hands them to a sink, and reports back to Postgres what has been delivered and stored.
package cdc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/decoder"
)

// Config is what a Relay needs to know. Its zero durations mean the defaults named at each field.
type Config struct {
	// Name is the relay's identity: the checkpoint row, the default slot, the position header. [a-z0-9_]{1,40}.
	Name string
	// Instance tells one process from another in the checkpoint row and in logs.
	Instance string
	// Delivery is the promise that OpenSink keeps; it is recorded in the checkpoint row.
	Delivery string
	// Postgres is the database to follow.
	Postgres Postgres
	// NewSink makes the sink of one session: sessions share nothing. A sink that promises exactly-once keeps in the ledger
	// what a restart needs to know.
	NewSink func(*Ledger) (Sink, error)
	// Rehearse is asked before a slot is made, and from time to time by a relay that stands by. Its error says why a sink could not start now; it
	// disturbs no session of another relay. It heeds its context; nil is never asked.
	Rehearse func(context.Context) error
	// CheckpointInterval is the time between two saves while there is something to save. Zero: 1 s.
	CheckpointInterval time.Duration
	// Drain bounds the delivery of what is in flight after a stop was asked for. Zero: 30 s.
	Drain time.Duration
	// Retention is the age from which on a delivered row of an outbox table is deleted. Zero: never.
	Retention time.Duration
	// Columns is what role plays which column, as Routing has it; here it tells the age of rows (timestamp, schema.table.timestamp).
	Columns map[string]string
	// ExitOnBlocked makes Run return a *Blocked error where it would otherwise stay up, not ready, until it is stopped.
	ExitOnBlocked bool
	// Log is told of session boundaries and state changes.
	Log zerolog.Logger
}

// Postgres says which database to follow, through what.
type Postgres struct {
	// URL is a libpq URL or DSN; PG* variables, service and password files are honoured.
	URL string
	// Password, when not nil, overrides the URL's password; it is asked at every dial.
	Password func() (string, error)
	// Dial, when not nil, opens the connections instead of a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Publication and Slot name what to stream from.
	Publication, Slot string
	// Create makes a missing publication and slot, at the very first start only: later it would be a silent gap.
	Create bool
	// Failover makes a new slot follow a promotion (PostgreSQL 17 and later).
	Failover bool
	// Tables are the outbox tables as "schema.table"; empty means all tables of the publication.
	Tables []string
	// Prefixes are those of the transactional logical messages that are events.
	Prefixes []string
	// MaxRetainedWAL, in bytes, makes the relay degraded when its slot holds back more. Zero: 80 % of max_slot_wal_keep_size where that is set.
	MaxRetainedWAL int64
}

// Sink delivers the events of one session. Begin, Append and End are called by one goroutine, the reader;
// the other methods may be called by any.
//
// An error that has a method Blocked() (verdict, reason, advice string, options []string) is for a person to judge, see Blocked; one that has
// a method Permanent() bool which answers true cannot be cured by trying again.
type Sink interface {
	// Start gets what a session needs before anything is sent. While the sink's other side is away it goes on trying until ctx ends.
	Start(ctx context.Context) error
	// ClusterID names the cluster that Start found.
	ClusterID() string
	// Run delivers until ctx ends, or until an error ends the session. Its sockets are closed and its goroutines have ended when it returns.
	Run(ctx context.Context) error
	// Begin and End enclose the events of one block read from the stream, so that a sink hands over and locks by block, never by row.
	Begin()
	// Append takes an event, copying what it needs. Numbers increase. It blocks while the sink's bound on bytes in flight is used up,
	// and returns an error when the session must end. taken is false for an event that needs no ack: policy leaves it out, or Kafka holds it already.
	Append(e *decoder.Event, number uint64) (taken bool, err error)
	// Passed tells, after its last event, that a transaction is complete, and which number the next event will get.
	Passed(p decoder.Position, next uint64) error
	End()
	// Met says that the stream has passed everything that the sink's other side held above the checkpoint when the session began.
	Met() bool
	// Stored tells that every event below next is stored.
	Stored(next uint64)
	// Oldest is the smallest number appended and not yet acked; math.MaxUint64 when everything is.
	Oldest() uint64
	// Drain sends what is still open and returns when nothing is unacked.
	Drain(ctx context.Context) error
	// InFlight is what has been appended and not yet acked.
	InFlight() (records int, bytes int64)
	// Trouble is what keeps events from being delivered just now, in words for an operator; empty when nothing does.
	Trouble() string
}

// lsn is short for the LSN type that travels through the whole package.
type lsn = pglogrepl.LSN

// pluginArgs are the options of START_REPLICATION (PostgreSQL docs, "Logical Streaming Replication Parameters").
// Protocol 1 knows no transactions in progress: only what is committed arrives, with its commit LSN known from the start.
func (pg *Postgres) pluginArgs() []string {
	args := []string{"proto_version '1'", "publication_names " + quoteLiteral(quoteName(pg.Publication))}
	if len(pg.Prefixes) > 0 {
		args = append(args, "messages 'true'")
	}
	return args
}

// decodeHash is a digest of what decides how events are counted within a transaction, and so of what a position means: the
// options of the stream and the names of the publications. What a publication holds is read with the historic snapshot, and replays.
func (pg *Postgres) decodeHash() string {
	sum := sha256.Sum256([]byte(strings.Join(append(pg.pluginArgs(), pg.Prefixes...), "\n")))
	return hex.EncodeToString(sum[:8])
}

// quoteLiteral makes a string literal for a replication command, which knows no other escape.
func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
