package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/migrations"
)

// ErrActive says that a relay is at work, and that nothing was dropped.
var ErrActive = errors.New("a relay is active")

// Drop removes what Make has made: slot and checkpoint of this relay, and where it is the last one of the database, publication,
// outbox tables, with all rows in them, and schema outrider. What was there before Make stays.
func (s *Setup) Drop(ctx context.Context, cfg *Config) (objects []Object, err error) {
	conn, err := dialControl(ctx, &cfg.Postgres)
	if err != nil {
		return nil, advised(err, &cfg.Postgres)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	add := func(name, state string) { objects = append(objects, Object{name, state}) }
	pg := &cfg.Postgres
	slot, err := restingSlot(ctx, conn, pg.Slot)
	if err != nil {
		return nil, err
	}
	row, known, err := checkpoint.Read(ctx, conn, cfg.Name)
	switch {
	case err != nil:
		return nil, err
	case slot != nil && slot.Active:
		who, _ := slot.holder(ctx, conn)
		return nil, fmt.Errorf("%w: slot %s is read by %s. Stop it first; nothing was dropped", ErrActive, pg.Slot, who)
	}
	if slot != nil {
		if _, err := conn.Exec(ctx, `select pg_drop_replication_slot($1)`, pg.Slot); err != nil {
			return nil, fmt.Errorf("drop slot %s: %w", pg.Slot, err)
		}
		add("slot "+pg.Slot, objectDropped)
	}
	if known {
		if _, err := conn.Exec(ctx, `delete from outrider.checkpoint where name = $1`, cfg.Name); err != nil {
			return objects, fmt.Errorf("delete the checkpoint of %s: %w", cfg.Name, err)
		}
		add("checkpoint of "+cfg.Name+" (at "+row.LSN.String()+", last heard of "+row.HeartbeatAt.UTC().Format(time.RFC3339)+")", objectDropped)
	}
	return s.dropShared(ctx, conn, cfg, objects)
}

// endingTime is what the walsender of a relay that has just been stopped may take to end.
const endingTime = 2 * time.Second

// restingSlot reads the slot, and gives whoever reads it endingTime to end.
func restingSlot(ctx context.Context, conn *pgx.Conn, name string) (*slotFacts, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(endingTime); ; {
		slot, err := readSlot(ctx, conn, name)
		if err != nil || slot == nil || !slot.Active || time.Now().After(until) {
			return slot, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// selectOthers names the other relays of the database. One that was made and has not run yet is known by its slot alone.
const selectOthers = `
select coalesce(string_agg(name, ', ' order by name), '') from (
	select name from outrider.checkpoint where name <> $1
	union all
	select 'slot ' || slot_name from pg_replication_slots where database = current_database() and slot_name like 'outrider\_%'
		and slot_name <> $2 and not exists (select from outrider.checkpoint where slot = slot_name)
) others`

// dropShared drops what the relays of a database have in common, unless there are others.
func (s *Setup) dropShared(ctx context.Context, conn *pgx.Conn, cfg *Config, objects []Object) ([]Object, error) {
	tables, err := readTables(ctx, conn, append([]string{"outrider.checkpoint"}, cfg.Postgres.Tables...))
	if err != nil {
		return objects, err
	}
	if _, ours := tables["outrider.checkpoint"]; ours {
		var others string
		if err := conn.QueryRow(ctx, selectOthers, cfg.Name, cfg.Postgres.Slot).Scan(&others); err != nil {
			return objects, fmt.Errorf("look for other relays: %w", err)
		}
		if others != "" {
			return append(objects, Object{"publication, outbox tables and schema outrider, which other relays use: " + others, objectLeft}), nil
		}
	}
	if objects, err = dropPublication(ctx, conn, cfg.Postgres.Publication, objects); err != nil {
		return objects, err
	}
	for i, o := range s.Outboxes {
		name := cfg.Postgres.Tables[i]
		if err := o.Drop(ctx, conn); err != nil {
			return objects, err
		}
		after, err := readTables(ctx, conn, []string{name})
		if err != nil {
			return objects, err
		}
		if _, there := tables[name]; there {
			objects = append(objects, Object{"outbox table " + name, map[bool]string{true: objectDropped, false: objectLeft}[len(after) == 0]})
		}
	}
	if err := migrations.DropCheckpoint(ctx, conn); err != nil {
		return objects, err
	}
	return addLeft(ctx, conn, objects)
}

// dropPublication drops the publication if Make has made it.
func dropPublication(ctx context.Context, conn *pgx.Conn, name string, objects []Object) ([]Object, error) {
	var made bool
	err := conn.QueryRow(ctx, `select coalesce(obj_description(oid, 'pg_publication') = $2, false) from pg_publication where pubname = $1`, name, madeByInit).Scan(&made)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return objects, nil
	case err != nil:
		return objects, fmt.Errorf("look at publication %s: %w", name, err)
	case !made:
		return append(objects, Object{"publication " + name, objectLeft}), nil
	}
	if _, err := conn.Exec(ctx, "drop publication "+quoteName(name)); err != nil {
		return objects, fmt.Errorf("drop publication %s: %w", name, err)
	}
	return append(objects, Object{"publication " + name, objectDropped}), nil
}

// addLeft names what init has made and these settings did not say: rows that nobody named are not dropped.
func addLeft(ctx context.Context, conn *pgx.Conn, objects []Object) ([]Object, error) {
	var schema bool
	var publications []string
	err := conn.QueryRow(ctx, `select exists (select from pg_namespace where nspname = 'outrider'),
		array(select pubname::text from pg_publication where obj_description(oid, 'pg_publication') = $1 order by 1)`, madeByInit).Scan(&schema, &publications)
	if err != nil {
		return objects, fmt.Errorf("look for what is left: %w", err)
	}
	tables, err := migrations.Made(ctx, conn)
	if err != nil {
		return objects, err
	}
	for _, name := range publications {
		objects = append(objects, Object{"publication " + name + ", which init has made: --publication " + name + " drops it", objectLeft})
	}
	for _, name := range tables {
		objects = append(objects, Object{"outbox table " + name + ", which init has made: --table " + name + " drops it, with its rows", objectLeft})
	}
	if schema {
		return append(objects, Object{"schema outrider, in which something else is", objectLeft}), nil
	}
	return append(objects, Object{"schema outrider", objectDropped}), nil
}

// DropSQL is what Drop runs where no other relay is.
func (s *Setup) DropSQL(cfg *Config) (string, error) {
	pg := &cfg.Postgres
	parts := []string{
		"-- Where the database has other relays, run only the next line, and: delete from outrider.checkpoint where name = " + quoteLiteral(cfg.Name) + ";",
		"select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = " + quoteLiteral(pg.Slot) + ";",
		migrations.Unless("select not exists (select from pg_publication where pubname = "+quoteLiteral(pg.Publication)+" and obj_description(oid, 'pg_publication') = "+quoteLiteral(madeByInit)+")",
			"drop publication "+quoteName(pg.Publication)+";"),
	}
	for _, o := range s.Outboxes {
		sql, err := o.DropSQL()
		if err != nil {
			return "", err
		}
		parts = append(parts, sql)
	}
	return strings.Join(append(parts, migrations.DropCheckpointSQL()), "\n") + "\n", nil
}
