package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/migrations"
)

// Setup is what a relay needs in Postgres, to be made, or removed, before or without a first start.
type Setup struct {
	// Outboxes are tables to be made. One that is there already stays as it is.
	Outboxes []migrations.Outbox
	// Role is the relay's, which gets the rights that it needs. Empty: none is granted.
	Role string
	// Tell is told whom a new slot waits for. It may be nil.
	Tell func(waitsFor string)
}

// Object is a thing that Setup has looked after.
type Object struct {
	Name  string `json:"object"`
	State string `json:"state"` // made, there, granted, dropped or left
}

// The states of an Object.
const (
	objectMade    = "made"
	objectThere   = "there"
	objectGranted = "granted"
	objectDropped = "dropped"
	objectLeft    = "left"
)

// madeByInit is the comment on a publication that Make has made, and Drop may drop.
const madeByInit = "Made by outrider init."

// Make makes what is missing, in the order in which a first start would. It may be run again at any time: a publication or slot
// that went missing under a relay which has a checkpoint, or beside a slot, is not made again, since that would hide a gap.
func (s *Setup) Make(ctx context.Context, cfg *Config) (objects []Object, err error) {
	conn, err := dialControl(ctx, &cfg.Postgres)
	if err != nil {
		return nil, advised(err, &cfg.Postgres)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	add := func(name string, there bool) {
		objects = append(objects, Object{name, map[bool]string{true: objectThere, false: objectMade}[there]})
	}
	var role roleFacts
	if s.Role != "" {
		if role, err = s.readRole(ctx, conn); err != nil {
			return nil, err // before anything is made
		}
	}
	there, err := readTables(ctx, conn, append([]string{"outrider.checkpoint"}, cfg.Postgres.Tables...))
	if err != nil {
		return nil, err
	}
	if err := migrations.EnsureCheckpoint(ctx, conn); err != nil {
		return objects, advised(err, &cfg.Postgres)
	}
	_, known := there["outrider.checkpoint"]
	add("schema outrider with its tables checkpoint and partition", known)
	for i, o := range s.Outboxes {
		if err := o.Create(ctx, conn); err != nil {
			return objects, advised(err, &cfg.Postgres)
		}
		_, known := there[cfg.Postgres.Tables[i]]
		add("outbox table "+cfg.Postgres.Tables[i], known)
	}
	if s.Role != "" {
		if err := s.grant(ctx, conn, cfg, role); err != nil {
			return objects, advised(err, &cfg.Postgres)
		}
		objects = append(objects, Object{"rights of role " + s.Role, objectGranted})
	}
	if err := s.makeStream(ctx, conn, cfg, add); err != nil {
		return objects, advised(err, &cfg.Postgres)
	}
	return objects, nil
}

// makeStream makes publication and slot, in this order.
func (s *Setup) makeStream(ctx context.Context, conn *pgx.Conn, cfg *Config, add func(string, bool)) error {
	pg := &cfg.Postgres
	f, err := preflight(ctx, conn, pg)
	if err != nil {
		return err
	}
	_, known, err := checkpoint.Read(ctx, conn, cfg.Name)
	if err != nil {
		return err
	}
	switch {
	case f.publication == nil && (f.slot != nil || known):
		return missingPublication(pg)
	case f.publication == nil:
		if err := createPublication(ctx, conn, pg); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "comment on publication "+quoteName(pg.Publication)+" is "+quoteLiteral(madeByInit)); err != nil {
			return fmt.Errorf("comment on publication %s: %w", pg.Publication, err)
		}
	}
	add("publication "+pg.Publication, f.publication != nil)
	switch {
	case f.slot != nil && f.slot.lost() == "":
	case known || f.slot != nil:
		return findings{{"slot " + pg.Slot + " is gone, and the relay has run before", "a new slot would hide what was committed in between", "outrider resolve --name " + cfg.Name}}
	default:
		if err := s.makeSlot(ctx, conn, cfg, f.version); err != nil {
			return err
		}
	}
	add("slot "+pg.Slot, f.slot != nil)
	return nil
}

func (s *Setup) makeSlot(ctx context.Context, conn *pgx.Conn, cfg *Config, version int) error {
	repl, err := dialReplication(ctx, &cfg.Postgres)
	if err != nil {
		return err
	}
	defer func() { _ = repl.close() }()
	tell := s.Tell
	if tell == nil {
		tell = func(string) {}
	}
	_, err = createSlot(ctx, repl, conn, &cfg.Postgres, version, tell)
	return err
}

const selectRole = `
select rolsuper or rolreplication or exists (select from pg_roles g where g.rolname = 'rds_replication' and pg_has_role(r.oid, g.oid, 'usage')),
	exists (select from pg_roles where rolname = 'rds_replication')
from pg_roles r where rolname = $1`

// roleFacts is what a role may do already, and whether the server is one of Amazon's.
type roleFacts struct{ replicates, rds bool }

func (s *Setup) readRole(ctx context.Context, conn *pgx.Conn) (f roleFacts, err error) {
	err = conn.QueryRow(ctx, selectRole, s.Role).Scan(&f.replicates, &f.rds)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, findings{{"role " + s.Role + " does not exist", "the relay connects as it", "create role " + quoteName(s.Role) + " login replication password '...'; then run this again"}}
	}
	if err != nil {
		return f, fmt.Errorf("read role %s: %w", s.Role, err)
	}
	return f, nil
}

// grant gives the role what it needs and no more.
func (s *Setup) grant(ctx context.Context, conn *pgx.Conn, cfg *Config, role roleFacts) error {
	if !role.replicates {
		sql := "alter role " + quoteName(s.Role) + " replication"
		if role.rds {
			sql = "grant rds_replication to " + quoteName(s.Role)
		}
		if _, err := conn.Exec(ctx, sql); err != nil {
			return findings{{"role " + s.Role + " may not replicate, and that cannot be granted here (" + err.Error() + ")", "it streams from a slot", sql}}
		}
	}
	sql, err := s.grantSQL(cfg)
	if err != nil {
		return err
	}
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("grant rights to %s: %w", s.Role, err)
	}
	return nil
}

func (s *Setup) grantSQL(cfg *Config) (string, error) {
	sql, err := migrations.GrantSQL(s.Role, cfg.Postgres.Tables...)
	if cfg.Retention > 0 {
		for _, t := range cfg.Postgres.Tables {
			sql += "grant delete on " + quoteTable(t) + " to " + quoteName(s.Role) + ";\n"
		}
	}
	return sql, err
}

// SQL is what Make runs, for somebody else to run, as often as they like. It cannot ask whether the role exists, and the slot
// takes a transaction of its own.
func (s *Setup) SQL(cfg *Config) (string, error) {
	parts := []string{migrations.CheckpointSQL()}
	for _, o := range s.Outboxes {
		sql, err := o.SQL(false)
		if err != nil {
			return "", err
		}
		parts = append(parts, sql)
	}
	if s.Role != "" {
		sql, err := s.grantSQL(cfg)
		if err != nil {
			return "", err
		}
		parts = append(parts, s.replicationSQL()+sql)
	}
	pg := &cfg.Postgres
	// What a relay has run with is not made again: that would hide a gap.
	ran := "exists (select from pg_replication_slots where slot_name = " + quoteLiteral(pg.Slot) + ") or exists (select from outrider.checkpoint where name = " + quoteLiteral(cfg.Name) + ")"
	parts = append(parts, migrations.Unless("select exists (select from pg_publication where pubname = "+quoteLiteral(pg.Publication)+") or "+ran,
		createPublicationSQL(pg)+";\ncomment on publication "+quoteName(pg.Publication)+" is "+quoteLiteral(madeByInit)+";"))
	create := "select pg_create_logical_replication_slot(" + quoteLiteral(pg.Slot) + ", 'pgoutput'"
	if pg.Failover {
		parts = append(parts, migrations.Unless(fmt.Sprintf("select current_setting('server_version_num')::int < %d or %s", failoverVersion, ran), create+", failover => true);"))
	}
	return strings.Join(append(parts, migrations.Unless("select "+ran, create+");")), "\n"), nil
}

// replicationSQL lets the role replicate, where it may not yet.
func (s *Setup) replicationSQL() string {
	role, amazon := quoteLiteral(s.Role), "exists (select from pg_roles where rolname = 'rds_replication')"
	return migrations.Unless("select "+amazon+" or exists (select from pg_roles where rolname = "+role+" and (rolsuper or rolreplication))", "alter role "+quoteName(s.Role)+" replication;") +
		migrations.Unless("select not "+amazon, "grant rds_replication to "+quoteName(s.Role)+";")
}
