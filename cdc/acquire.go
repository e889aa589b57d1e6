package cdc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/migrations"
)

// takeSlot makes the session the owner of the slot: the stream has begun, and nothing is read yet. At the very first
// start it creates what is missing.
func (s *session) takeSlot(ctx context.Context) error {
	if err := migrations.EnsureCheckpoint(ctx, s.control); err != nil {
		return fmt.Errorf("prepare schema outrider: %w", err)
	}
	failpoint("schema prepared")
	if err := s.judgeRow(ctx); err != nil {
		return err
	}
	for s.facts.slot != nil && s.facts.slot.Active {
		if err := s.standBy(ctx); err != nil {
			return err
		}
	}
	if s.facts.slot == nil {
		if err := s.firstStart(ctx); err != nil {
			return err
		}
	}
	from, err := s.startLSN()
	if err != nil {
		return err
	}
	err = s.repl.start(ctx, s.cfg.Postgres.Slot, from, s.cfg.Postgres.pluginArgs())
	switch classifyPg(err) {
	case pgSlotBusy:
		return errStandby // somebody was faster
	case pgSlotMissing, pgSlotLost:
		return s.slotGone("it cannot be read: " + err.Error())
	}
	return err
}

// judgeRow reads the checkpoint row and looks for what keeps this relay from the slot, or what a person has decided.
func (s *session) judgeRow(ctx context.Context) error {
	row, known, err := checkpoint.Read(ctx, s.control, s.cfg.Name)
	if err != nil {
		return err
	}
	switch {
	case known:
		err = s.checkSlotOf(row)
	case s.facts.slot != nil:
		s.readBefore, err = s.slotWasRead(ctx)
	}
	if err != nil {
		return err
	}
	s.generation = row.Generation
	if err := s.heed(row); err != nil {
		return err
	}
	if known {
		if err := s.judgeSystem(&row); err != nil {
			return err
		}
	}
	return s.judgeSlot(&row, known)
}

// checkSlotOf refuses a checkpoint that was made from another slot.
func (s *session) checkSlotOf(row checkpoint.Row) error {
	if row.Slot == s.cfg.Postgres.Slot {
		return nil
	}
	return findings{{
		"the checkpoint of " + s.cfg.Name + " belongs to slot " + row.Slot + ", and this relay is to read slot " + s.cfg.Postgres.Slot,
		"two relays under one name would take the checkpoint from each other in turn",
		"give one of them another name; or, if the slot was replaced on purpose: update outrider.checkpoint set slot = '" + s.cfg.Postgres.Slot + "' where name = '" + s.cfg.Name + "'",
	}}
}

// firstStart creates publication and slot, in this order: a slot streams what is published at its start.
func (s *session) firstStart(ctx context.Context) error {
	pg := &s.cfg.Postgres
	if err := s.refusedByKafka(ctx); err != nil {
		return err
	}
	if s.facts.publication == nil {
		if err := createPublication(ctx, s.control, pg); err != nil {
			return err
		}
		s.log.Info().Str("publication", pg.Publication).Strs("tables", pg.Tables).Msg("publication created")
		failpoint("publication created")
	}
	at, err := createSlot(ctx, s.repl, s.control, pg, s.facts.version, func(waitsFor string) {
		s.log.Warn().Str("waits_for", waitsFor).Msg("the new slot waits for transactions that began before it")
	})
	if err != nil {
		return err
	}
	s.created = true
	failpoint("slot created")
	started := s.log.Info().Str("slot", pg.Slot).Stringer("at", at)
	for _, table := range pg.Tables {
		if n, err := rowsBefore(ctx, s.control, table); err == nil { // the right to read the table is not needed otherwise
			started = started.Int64("rows_not_sent_"+table, n)
		}
	}
	started.Msg("slot created; rows that were in the outbox before it are not sent")
	return nil
}

// refusalTimeout bounds the wait for Kafka before a slot is made.
const refusalTimeout = 10 * time.Second

// refusedByKafka asks Kafka before anything is made in Postgres. Where it refuses this relay for good the process ends, and a slot
// that it left behind, which nobody reads, would hold back WAL until the disk is full. Where Kafka is merely away the slot is made
// all the same: this process stays, says that it waits and what the slot holds back, and will send what is committed meanwhile.
func (s *session) refusedByKafka(ctx context.Context) error {
	if s.cfg.Rehearse == nil {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, refusalTimeout)
	defer cancel()
	err := s.cfg.Rehearse(asking)
	var permanent interface{ Permanent() bool }
	if errors.As(err, &permanent) && permanent.Permanent() {
		return asSink(err)
	}
	return ctx.Err()
}

// claim takes the checkpoint row, and with it the right to store. Only the owner of the slot gets it; the owner before can store no more.
func (s *session) claim(ctx context.Context) (checkpoint.Row, error) {
	slot, err := readSlot(ctx, s.control, s.cfg.Postgres.Slot)
	if err != nil {
		return checkpoint.Row{}, err
	}
	if slot == nil {
		return checkpoint.Row{}, s.slotGone("it was dropped while it was being taken")
	}
	// What preflight saw may be older than the slot's last owner, or than a slot made by us.
	if s.facts.walEnd, err = readWALEnd(ctx, s.control); err != nil {
		return checkpoint.Row{}, err
	}
	if err := checkAsync(ctx, s.control, s.repl.pid); err != nil {
		return checkpoint.Row{}, err
	}
	store, row, first, err := checkpoint.Take(ctx, s.control, checkpoint.Claim{
		Name: s.cfg.Name, Instance: s.cfg.Instance, Slot: s.cfg.Postgres.Slot, WalsenderPID: s.repl.pid,
		SystemID: s.facts.server.systemID, Timeline: s.timelines.current, LSN: slot.Confirmed, Delivery: s.cfg.Delivery,
	})
	if errors.Is(err, checkpoint.ErrNotOwner) {
		return row, errStandby
	}
	if err != nil {
		return row, err
	}
	failpoint("row claimed")
	s.store, s.facts.slot, s.generation = store, slot, store.Generation()
	if !row.Standing().Equal(s.standing) {
		return row, s.redecided()
	}
	if first {
		if err := s.keepRows(ctx, "the first start"); err != nil {
			return row, err
		}
	}
	if first && !s.created {
		s.tellFirst(row.LSN)
	}
	err = s.judge(&row)
	return row, err
}

// A slot that has brought nobody a transaction has no row here, or one of zeros, as it also has after a crash of the server.
const selectSlotRead = `select coalesce((select total_txns > 0 from pg_stat_replication_slots where slot_name = $1), false)`

// slotWasRead asks whether somebody has read from the slot. It is asked before the stream begins, which counts at once.
func (s *session) slotWasRead(ctx context.Context) (read bool, err error) {
	if err := s.control.QueryRow(ctx, selectSlotRead, s.cfg.Postgres.Slot).Scan(&read); err != nil {
		return false, fmt.Errorf("ask whether the slot was read: %w", err)
	}
	return read, nil
}

// tellFirst says what it means that there was a slot and no checkpoint: that outrider init, or somebody else, has made the slot for
// this start; or that the checkpoint of a relay which has run before is lost.
func (s *session) tellFirst(at lsn) {
	if s.readBefore {
		s.log.Warn().Stringer("checkpoint", at).Msg("no checkpoint was stored under this name, though somebody has read from its slot: starting where the slot stands; what a relay had sent from there on is sent again")
		return
	}
	s.log.Info().Stringer("checkpoint", at).Msg("first start, beside a slot that nobody has read from: starting where it stands")
}
