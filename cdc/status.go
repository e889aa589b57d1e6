package cdc

import (
	"time"

	"github.com/outrider-relay/outrider/checkpoint"
)

// State is what a relay is doing, in one word.
type State string

const (
	Starting State = "starting" // on its way through the start-up steps
	Standby  State = "standby"  // another relay owns the slot; able to take over
	Relaying State = "relaying" // streaming and delivering
	Degraded State = "degraded" // up, but something keeps it from delivering all it could; it goes on by itself
	Halted   State = "blocked"  // waits for a person's decision
	Draining State = "draining" // asked to stop, delivering what is in flight
)

// Status is the document that /status serves and `outrider status --json` prints.
type Status struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Instance string    `json:"instance"`
	State    State     `json:"state"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"` // of State
	Delivery string    `json:"delivery"`

	Postgres PostgresStatus `json:"postgres"`
	LSN      LSNStatus      `json:"lsn"`
	// LagSeconds is the age of the oldest commit not yet acked; 0 when drained, and on standby.
	LagSeconds float64              `json:"lag_seconds"`
	InFlight   InFlightStatus       `json:"in_flight"`
	Records    RecordsStatus        `json:"records"`
	Ignored    IgnoredStatus        `json:"ignored"`
	Topics     map[string]TopicStat `json:"topics"`
	LastError  *ErrorStatus         `json:"last_error"`
	// Errors are the last ones, the newest first; LastError is the first of them.
	Errors []ErrorStatus `json:"errors"`
	// Verdict is what a blocked relay waits for a decision about; nil in every other state.
	Verdict *VerdictStatus `json:"verdict,omitempty"`

	// Sessions counts the ended sessions by the way they ended.
	Sessions map[string]int64 `json:"sessions"`
}

// PostgresStatus is the followed server as last seen.
type PostgresStatus struct {
	Version    string `json:"version"`
	SystemID   string `json:"system_id"`
	Timeline   uint32 `json:"timeline"`
	Slot       string `json:"slot"`
	SlotStatus string `json:"slot_status"` // wal_status: reserved, extended, unreserved or lost
	SlotActive bool   `json:"slot_active"`
	// RetainedBytes is the WAL that the slot holds back; SafeBytes what may still be written before the server
	// gives the slot up, absent where nothing limits it.
	RetainedBytes int64  `json:"retained_bytes"`
	SafeBytes     *int64 `json:"safe_bytes,omitempty"`
	// LagBytes is the WAL between what is acked and the server's end; 0 on standby.
	LagBytes int64 `json:"lag_bytes"`
}

// LSNStatus holds positions as Postgres prints them. confirmed <= stored <= acked <= received <= server.
type LSNStatus struct {
	Received  string `json:"received"`
	Acked     string `json:"acked"`
	Stored    string `json:"stored"`
	Confirmed string `json:"confirmed"`
	Server    string `json:"server"`
}

// InFlightStatus is what the sink holds unacked.
type InFlightStatus struct {
	Records int   `json:"records"`
	Bytes   int64 `json:"bytes"`
	// OldestSeconds is the time since the oldest unacked event was committed; 0 when there is none.
	OldestSeconds float64 `json:"oldest_unacked_seconds"`
}

// RecordsStatus counts since the process started.
type RecordsStatus struct {
	Relayed           int64 `json:"relayed"`
	SkippedDuplicates int64 `json:"skipped_duplicates"`
	Poison            int64 `json:"poison"`
}

// IgnoredStatus counts, since the process started, what the stream brought and is no event: an outbox is inserted into.
// Some of it may have been counted before, in a session that ended before it was confirmed.
type IgnoredStatus struct {
	Inserts   int64 `json:"inserts"`   // rows of tables that are published and not among outbox.tables
	Updates   int64 `json:"updates"`   // rows
	Deletes   int64 `json:"deletes"`   // rows
	Truncates int64 `json:"truncates"` // commands
	Messages  int64 `json:"messages"`  // logical messages of our prefixes that are not transactional
}

// TopicStat counts what was acked since the process started.
type TopicStat struct {
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
}

// ErrorStatus is something that went wrong.
type ErrorStatus struct {
	At      time.Time `json:"at"`    // the last time
	Times   int       `json:"times"` // in a row
	Class   string    `json:"class"` // postgres, kafka, poison, blocked or internal
	Message string    `json:"message"`
}

// VerdictStatus is what only a person can judge.
type VerdictStatus struct {
	Case   string `json:"case"`
	Reason string `json:"reason"`
	Advice string `json:"advice"` // with the command of each option
	// Options are the flags of `outrider resolve` that decide it, without their dashes.
	Options []checkpoint.Action `json:"options"`
	// Positions are the events that it is about, as timeline:LSN:ordinal: the one that cannot be delivered, or those that only Kafka
	// has. Of a long list More are left out.
	Positions []string `json:"positions,omitempty"`
	More      int      `json:"more,omitempty"`
}
