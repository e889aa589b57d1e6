package cdc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// slotFacts is a row of pg_replication_slots. What a column's absence in an older server means is its zero.
type slotFacts struct {
	Plugin     string
	Database   string
	TwoPhase   bool   `json:"two_phase"`
	Active     bool   `json:"active"`
	ActivePID  uint32 `json:"active_pid"`
	Restart    lsn    `json:"-"` // 0 when its WAL is gone
	Confirmed  lsn    `json:"-"`
	WALStatus  string `json:"wal_status"`          // reserved, extended, unreserved or lost
	SafeBytes  *int64 `json:"safe_wal_size"`       // nil: unlimited, or lost
	Cause      string `json:"invalidation_reason"` // 17+
	Conflicted bool   `json:"conflicting"`         // 16+
	Failover   bool   `json:"failover"`            // 17+
	Synced     bool   `json:"synced"`              // 17+: came from the old primary

	RestartText   string `json:"restart_lsn"`
	ConfirmedText string `json:"confirmed_flush_lsn"`
}

// As JSON the row has whatever columns the server's version has.
const selectSlot = `select to_jsonb(s) from pg_replication_slots s where slot_name = $1`

// readSlot returns nil when there is no such slot.
func readSlot(ctx context.Context, conn *pgx.Conn, name string) (*slotFacts, error) {
	var row []byte
	err := conn.QueryRow(ctx, selectSlot, name).Scan(&row)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read slot %s: %w", name, err)
	}
	return parseSlot(row)
}

func parseSlot(row []byte) (*slotFacts, error) {
	var s slotFacts
	if err := json.Unmarshal(row, &s); err != nil {
		return nil, fmt.Errorf("read slot: %w", err)
	}
	for text, field := range map[string]*lsn{s.RestartText: &s.Restart, s.ConfirmedText: &s.Confirmed} {
		if text == "" {
			continue
		}
		l, err := pglogrepl.ParseLSN(text)
		if err != nil {
			return nil, fmt.Errorf("read slot: %w", err)
		}
		*field = l
	}
	return &s, nil
}

// lost says why the slot can never be read again; empty when it can.
func (s *slotFacts) lost() string {
	switch {
	case s.Cause != "":
		return "it was invalidated: " + s.Cause
	case s.WALStatus == "lost":
		return "the WAL that it needs has been removed (max_slot_wal_keep_size)"
	case s.Conflicted:
		return "it was invalidated by a conflict with recovery"
	}
	return ""
}

// findings are settings of the slot that the relay cannot work with.
func (s *slotFacts) findings(database string) findings {
	var bad findings
	if s.Plugin != "pgoutput" {
		kind := "is physical"
		if s.Plugin != "" {
			kind = "uses plugin " + s.Plugin
		}
		bad = append(bad, finding{"the slot " + kind, "the relay reads pgoutput", "set postgres.slot to a name that is free, or drop that slot if nobody needs it"})
	} else if s.Database != database {
		bad = append(bad, finding{"the slot belongs to database " + s.Database, "a slot streams its own database only", "set postgres.slot to a name that is free, or postgres.url to that database"})
	}
	if s.TwoPhase {
		bad = append(bad, finding{"the slot has two_phase", "it would deliver prepared transactions before their commit", "create the slot without two_phase"})
	}
	return bad
}

const selectHolder = `
select coalesce(application_name, ''), coalesce(client_addr::text, 'a unix socket'), backend_start
from pg_stat_activity where pid = $1`

// holder says in words who reads the slot, for a relay that stands by.
func (s *slotFacts) holder(ctx context.Context, conn *pgx.Conn) (string, error) {
	var application, addr string
	var since *time.Time // what the role may not see is null
	err := conn.QueryRow(ctx, selectHolder, s.ActivePID).Scan(&application, &addr, &since)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Sprintf("pid %d, which has just ended", s.ActivePID), nil
	}
	if err != nil {
		return "", fmt.Errorf("read who holds the slot: %w", err)
	}
	if since == nil {
		return fmt.Sprintf("pid %d of another role", s.ActivePID), nil
	}
	return fmt.Sprintf("pid %d (%s, from %s, since %s)", s.ActivePID, application, addr, since.UTC().Format(time.RFC3339)), nil
}
