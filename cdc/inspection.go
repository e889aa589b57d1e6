package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/decoder"
)

// The levels of a Finding.
const (
	OK   = "ok"
	Warn = "warn" // the relay works, and an operator should know
	Fail = "fail" // the relay does not start, or an application fails
)

// Finding is something that an operator should know: what it is, why it matters, and the command that repairs it.
type Finding struct{ Level, What, Why, Repair string }

// Inspection is what Inspect found.
type Inspection struct {
	Findings []Finding
	// Tables are the outbox tables as the stream will describe them, as far as they are published, or are going to be.
	Tables []*decoder.Relation
	// Rows are some of the youngest rows of Tables, where the role may read them.
	Rows []*decoder.Event
	// Row is the relay's checkpoint, where Known says that there is one; Partitions are those of Kafka that it may have written.
	Row        checkpoint.Row
	Known      bool
	Partitions []checkpoint.Partition

	cfg   *Config
	conn  *pgx.Conn
	facts facts
	// provider is who manages the server; empty where nobody is known to.
	provider string
}

// Inspect looks at everything in Postgres that could keep a relay with these settings from starting, or from relaying well. It
// changes nothing, and disturbs no relay that runs. What keeps it from looking is a finding too.
func Inspect(ctx context.Context, cfg *Config) *Inspection {
	in := &Inspection{cfg: cfg}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := dialControl(ctx, &cfg.Postgres)
	if err != nil {
		in.failed("Postgres cannot be asked", err)
		return in
	}
	defer func() { _ = conn.Close(ctx) }()
	in.conn = conn
	if err := in.look(ctx); err != nil {
		in.failed("the look at Postgres broke off", err)
	}
	return in
}

// failed is the finding that an error makes.
func (in *Inspection) failed(what string, err error) {
	repair := advisePg(err, &in.cfg.Postgres)
	if repair == "" && in.conn == nil {
		repair = "start that server, or correct postgres.url or the network in between"
	}
	in.add(Fail, what, strings.Join(strings.Fields(err.Error()), " "), repair)
}

func (in *Inspection) add(level, what, why, repair string) {
	in.Findings = append(in.Findings, Finding{level, what, why, repair})
}

func (in *Inspection) ok(format string, args ...any) {
	in.add(OK, fmt.Sprintf(format, args...), "", "")
}

func (in *Inspection) addAll(level string, found findings) {
	for _, f := range found {
		in.add(level, f.what, f.why, f.repair)
	}
}

// look goes through the database as a start does: server, slot, checkpoint, publication; and then through what a start does
// not ask, since it harms later.
func (in *Inspection) look(ctx context.Context) (err error) {
	pg := &in.cfg.Postgres
	in.facts, err = preflight(ctx, in.conn, pg)
	var fatal findings
	if err != nil && !errors.As(err, &fatal) {
		return err
	}
	in.addAll(Fail, fatal)
	in.addAll(Warn, in.facts.warnings)
	f := &in.facts
	if f.version < minVersion || f.server.timeline == 0 {
		return nil
	}
	in.ok("PostgreSQL %s, system %s, timeline %d", f.versionText, f.server.systemID, f.server.timeline)
	for _, part := range []struct {
		of   string
		look func(context.Context) error
	}{
		{"the checkpoint", in.lookAtCheckpoint},
		{"the server's settings", in.lookAtSettings},
		{"the replication connection", in.lookAtReplication},
		{"the slot", in.lookAtSlot},
		{"the publication", in.lookAtPublication},
		{"replica identities", in.lookAtIdentity},
		{"the role's rights", in.lookAtRights},
		{"outbox.retention", in.lookAtRetention},
		{"the outbox tables", in.lookAtTables},
	} {
		if err := part.look(ctx); err != nil {
			if in.conn.IsClosed() {
				return err
			}
			in.failed("the look at "+part.of+" broke off", err) // what comes next may be what is wrong
		}
	}
	return nil
}

// lookAtTables reads what the stream would bring.
func (in *Inspection) lookAtTables(ctx context.Context) (err error) {
	if in.Tables, err = readRelations(ctx, in.conn, &in.cfg.Postgres); err == nil {
		in.lookAtRows(ctx)
	}
	return err
}

// lookAtCheckpoint gives the verdict that a start would come to. The slot was read before the row and the end of WAL is read
// after it, so that a relay which goes on meanwhile makes no contradiction.
func (in *Inspection) lookAtCheckpoint(ctx context.Context) (err error) {
	if in.Row, in.Known, err = checkpoint.Read(ctx, in.conn, in.cfg.Name); err != nil {
		return err
	}
	if in.facts.walEnd, err = readWALEnd(ctx, in.conn); err != nil {
		return err
	}
	if in.Known {
		if in.Partitions, err = checkpoint.ReadPartitions(ctx, in.conn, in.cfg.Name); err != nil {
			return err
		}
	}
	blocked, found, err := in.forecast()
	switch {
	case err != nil:
		return err
	case blocked != nil:
		in.add(Fail, "blocked ("+blocked.Verdict+"): "+blocked.Reason, "only a person can judge that", blocked.Advice)
	case len(found) > 0:
		in.addAll(Fail, found)
	case in.Known:
		in.ok("a checkpoint at %s, delivery %s; the slot agrees with it", in.Row.LSN, in.Row.Delivery)
		return in.lookAtCompany(ctx)
	case in.facts.slot != nil:
		in.ok("no checkpoint yet: the first start begins where the slot stands, at %s (a relay of this name that has run before would repeat what it sent from there on)", in.facts.slot.Confirmed)
	default:
		in.ok("neither checkpoint nor slot: the first start makes what is missing, and begins there; rows from before are not sent")
	}
	return nil
}

// lookAtCompany is about what a checkpoint alone tells: how delivery changes, and which other relays there are.
func (in *Inspection) lookAtCompany(ctx context.Context) error {
	if in.cfg.Delivery == ExactlyOnce && in.Row.Delivery != ExactlyOnce && !in.Row.Clean {
		in.add(Warn, "delivery is to become exactly-once, and the last session of at-least-once has not ended cleanly", "what it sent after its checkpoint is sent again, for nothing tells which events those are",
			"start the relay with kafka.delivery: at-least-once, stop it with SIGTERM (it drains), then change it; or take the repeats")
	}
	var others string
	if err := in.conn.QueryRow(ctx, selectOthers, in.cfg.Name, in.cfg.Postgres.Slot).Scan(&others); err != nil {
		return fmt.Errorf("look for other relays: %w", err)
	}
	if others != "" {
		in.ok("other relays of this database: %s; rows that two of them stream are published twice", others)
	}
	return nil
}

// lookAtReplication opens a replication connection, as a session does: a pooler, a proxy or pg_hba.conf may let the one kind pass and
// not the other, and an address with several servers behind it may lead each to another one.
func (in *Inspection) lookAtReplication(ctx context.Context) error {
	if slices.ContainsFunc(in.Findings, func(f Finding) bool { return f.Level == Fail }) {
		return nil // which is likely to be why it could not be had
	}
	repl, err := dialReplication(ctx, &in.cfg.Postgres)
	if err != nil {
		in.failed("a replication connection cannot be had", err)
		return nil
	}
	defer func() { _ = repl.close() }()
	server, _, err := repl.identify(ctx)
	if err == nil {
		err = sameServer(server, in.facts.server)
	}
	if err != nil {
		in.failed("a replication connection is no use", err)
		return nil
	}
	in.ok("a replication connection reaches the same server")
	return nil
}

// forecast is the verdict that a start would come to now, or what would keep it from one; neither where it would relay. It
// decides by the same functions as a session.
func (in *Inspection) forecast() (*Blocked, findings, error) {
	s := &session{cfg: in.cfg, facts: in.facts, log: zerolog.Nop(), timelines: timelines{current: in.facts.server.timeline}}
	row := in.Row
	err := in.forecastWith(s, &row)
	var blocked *Blocked
	var found findings
	switch {
	case errors.As(err, &blocked):
		return blocked, nil, nil
	case errors.As(err, &found):
		return nil, found, nil
	}
	return nil, nil, err
}

func (in *Inspection) forecastWith(s *session, row *checkpoint.Row) error {
	if in.Known {
		verdict, decision, err := row.Pending()
		switch {
		case err != nil:
			return err
		case verdict != nil && decision == nil:
			return &Blocked{Verdict: verdict.Case, Reason: verdict.Reason, Advice: verdict.Advice, Options: verdict.Options}
		}
		s.verdict, s.decision = verdict, decision
		if err := s.checkSlotOf(*row); err != nil {
			return err
		}
		if err := s.judgeSystem(row); err != nil {
			return err
		}
	}
	if err := s.judgeSlot(row, in.Known); err != nil || !in.Known || s.decision != nil || s.facts.slot == nil {
		return err // what was decided is taken at the start
	}
	if err := s.judge(row); err != nil {
		return err
	}
	return s.checkDecoding(*row)
}
