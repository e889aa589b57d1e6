package cdc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrider-relay/outrider/checkpoint"
)

// Stopped is the state of a relay that no process runs. Only Offline can see it.
const Stopped State = "stopped"

// silentFor is the age of a heartbeat from which on nobody is taken to be at work: three of them are missing.
const silentFor = 3 * heartbeatInterval

// Offline is a relay's status as far as the database alone knows it: checkpoint, slot, and the verdict that stands or that a
// start would come to. What only the relay's process knows is zero.
func Offline(ctx context.Context, cfg *Config) (Status, error) {
	st := Status{Name: cfg.Name, Delivery: cfg.Delivery, Postgres: PostgresStatus{Slot: cfg.Postgres.Slot}}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := dialControl(ctx, &cfg.Postgres)
	if err != nil {
		return st, advised(err, &cfg.Postgres)
	}
	defer func() { _ = conn.Close(ctx) }()
	in := &Inspection{cfg: cfg, conn: conn}
	var found findings
	if in.facts, err = preflight(ctx, conn, &cfg.Postgres); err != nil && !errors.As(err, &found) {
		return st, advised(err, &cfg.Postgres)
	}
	f := &in.facts
	st.Postgres.Version, st.Postgres.SystemID, st.Postgres.Timeline = f.versionText, f.server.systemID, f.server.timeline
	if f.version < minVersion || f.server.timeline == 0 {
		st.State, st.Reason = Stopped, found.Error()
		return st, nil
	}
	if in.Row, in.Known, err = checkpoint.Read(ctx, conn, cfg.Name); err != nil {
		return st, err
	}
	if f.walEnd, err = readWALEnd(ctx, conn); err != nil {
		return st, err
	}
	var now time.Time
	if err := conn.QueryRow(ctx, `select clock_timestamp()`).Scan(&now); err != nil {
		return st, fmt.Errorf("read the server's clock: %w", err)
	}
	in.describe(&st)
	return st, in.judgeOffline(&st, found, now)
}

// describe fills in where checkpoint and slot stand.
func (in *Inspection) describe(st *Status) {
	end := in.facts.walEnd
	st.LSN.Server = end.String()
	if slot := in.facts.slot; slot != nil {
		st.Postgres.SlotStatus, st.Postgres.SlotActive, st.Postgres.SafeBytes = slot.WALStatus, slot.Active, slot.SafeBytes
		st.Postgres.RetainedBytes = int64(end - min(end, slot.Restart))
		st.LSN.Confirmed = slot.Confirmed.String()
	}
	if in.Known {
		st.Instance, st.Delivery = in.Row.Instance, in.Row.Delivery
		st.LSN.Stored = in.Row.LSN.String()
		st.Postgres.LagBytes = int64(end - min(end, in.Row.LSN))
		st.Since = in.Row.UpdatedAt
	}
}

// judgeOffline says what the relay is doing, by its heartbeat and by the verdict.
func (in *Inspection) judgeOffline(st *Status, found findings, now time.Time) error {
	slot := in.facts.slot
	blocked, prevented, err := in.forecast()
	if err != nil {
		return err
	}
	heard := now.Sub(in.Row.HeartbeatAt).Round(time.Second)
	switch found = append(found, prevented...); {
	case blocked != nil:
		st.State, st.Reason = Halted, blocked.Error()
	case len(found) > 0:
		st.State, st.Reason = Stopped, "it cannot start: "+found.Error()
	case !in.Known && slot == nil:
		st.State, st.Reason = Stopped, "it has never run: there is neither a checkpoint nor a slot"
	case !in.Known:
		st.State, st.Reason = Stopped, "it has no checkpoint yet, and begins where the slot stands"
	case slot != nil && slot.Active && heard < silentFor:
		st.State, st.Reason = Relaying, fmt.Sprintf("%s owns the slot, and was heard of %s ago", in.Row.Instance, heard)
	case slot != nil && slot.Active:
		st.State, st.Reason = Degraded, fmt.Sprintf("the slot is owned, but %s was heard of %s ago: it is starting, waits for Kafka, or hangs", in.Row.Instance, heard)
	default:
		st.State, st.Reason = Stopped, fmt.Sprintf("no process reads the slot; %s was heard of %s ago", in.Row.Instance, heard)
	}
	return nil
}
