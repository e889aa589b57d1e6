package migrations

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Flavor is a layout of an outbox table.
type Flavor string

const (
	// Outrider is our own table, with the function outrider.publish.
	Outrider Flavor = "outrider"
	// Tutorial is the table that most texts about the outbox pattern show, made for a poller.
	Tutorial Flavor = "tutorial"
	// Debezium is the table that the documentation of its outbox event router describes.
	Debezium Flavor = "debezium"
	// Quarkus is the table of its extension for that router, public.outboxevent unless named otherwise.
	Quarkus Flavor = "quarkus"
)

// Outbox is an outbox table to be made.
type Outbox struct {
	// Flavor is the table's layout. Zero: Outrider.
	Flavor Flavor
	// Table is "schema.table", or "table" for one in schema public; the names are taken as they are, upper case included.
	// Zero: public.outbox.
	Table string
	// Binary makes payload a bytea, and outrider.publish_bytes instead of outrider.publish. With flavor Outrider alone.
	Binary bool
	// Monthly makes a table with a partition for each month of created_at (UTC), so that old events leave by dropping one, and
	// outrider.add_partitions, which has to be called in time. Its first call makes those of a year. With flavor Outrider alone.
	Monthly bool
}

// SQL is what Create runs. uuidv7 says that the server has that function (PostgreSQL 18 and later).
func (o Outbox) SQL(uuidv7 bool) (string, error) {
	objects, err := o.objects(uuidv7)
	return script(objects, false), err
}

// Create makes the table and what goes with it. What there is already of that name stays as it is: outrider.publish
// inserts into the first table that was made with it.
func (o Outbox) Create(ctx context.Context, conn *pgx.Conn) error {
	var uuidv7 bool
	err := conn.QueryRow(ctx, "select to_regprocedure('pg_catalog.uuidv7()') is not null").Scan(&uuidv7)
	if err != nil {
		return fmt.Errorf("create outbox table %s: %w", o.table(), err)
	}
	objects, err := o.objects(uuidv7)
	if err != nil {
		return err
	}
	if err := create(ctx, conn, objects); err != nil {
		return fmt.Errorf("create outbox table %s: %w", o.table(), err)
	}
	return nil
}

func (o Outbox) table() string {
	switch {
	case o.Table != "":
		return o.Table
	case o.Flavor == Quarkus:
		return "public.outboxevent"
	}
	return "public.outbox"
}

// split reads "schema.table", or "table" for one in schema public.
func split(table string) (schema, name string, err error) {
	schema, name, found := strings.Cut(table, ".")
	if !found {
		schema, name = "public", table
	}
	if schema == "" || name == "" || strings.ContainsAny(table, "\x00") || strings.Contains(name, ".") {
		return "", "", fmt.Errorf("%q is no table name: write it as schema.table", table)
	}
	return schema, name, nil
}

func (o Outbox) objects(uuidv7 bool) ([]object, error) {
	schemaName, name, err := split(o.table())
	if err != nil {
		return nil, err
	}
	if (o.Binary || o.Monthly) && o.Flavor != Outrider && o.Flavor != "" {
		return nil, fmt.Errorf("an outbox table of flavor %s has no binary or monthly form", o.Flavor)
	}
	table := func(sql string) []object {
		return []object{relation(schemaName, name, adapt(sql, schemaName, name, uuidv7))}
	}
	switch o.Flavor {
	case Outrider, "":
	case Tutorial:
		return table(tutorialSQL), nil
	case Debezium:
		return table(debeziumSQL), nil
	case Quarkus:
		return table(quarkusSQL), nil
	default:
		return nil, fmt.Errorf("unknown flavor %q of an outbox table: it is %s, %s, %s or %s", o.Flavor, Outrider, Tutorial, Debezium, Quarkus)
	}
	objects := append(table(o.ours()), schema(), function("outrider", o.publish(), adapt(o.publishSQL(), schemaName, name, uuidv7)))
	if o.Monthly {
		root := pgx.Identifier{schemaName, name}.Sanitize()
		objects = append(objects, function("outrider", "add_partitions", addPartitionsSQL), object{
			`select exists (select from pg_inherits i join pg_class c on c.oid = i.inhparent join pg_namespace n on n.oid = c.relnamespace
				where n.nspname = $1 and c.relname = $2)`,
			[]any{schemaName, name},
			"select outrider.add_partitions('" + strings.ReplaceAll(root, "'", "''") + "');",
		})
	}
	return objects, nil
}

// ours is our own table in the form that is asked for.
func (o Outbox) ours() string {
	sql := outboxSQL
	if o.Binary {
		sql = strings.Replace(sql, "payload        jsonb", "payload        bytea", 1)
	}
	if o.Monthly {
		sql = strings.Replace(sql, "primary key (id)\n)", "primary key (id, created_at)\n) partition by range (created_at)", 1)
	}
	return sql
}

// publish is the function that inserts into the table. With one name for both forms a plain '...' for the payload would
// fit either, and be refused.
func (o Outbox) publish() string {
	if o.Binary {
		return "publish_bytes"
	}
	return "publish"
}

func (o Outbox) publishSQL() string {
	if !o.Binary {
		return publishSQL
	}
	return strings.NewReplacer(
		"outrider.publish(", "outrider.publish_bytes(", " publish.", " publish_bytes.", "(publish.", "(publish_bytes.",
		"payload        jsonb", "payload        bytea", "text, jsonb, jsonb", "text, bytea, jsonb",
	).Replace(publishSQL)
}

// adapt puts the table's name into SQL that is written for public.outbox, and version 7 ids, which keep an index's
// inserts together, where the server makes them. The files keep both words out of their literals.
func adapt(sql, schema, name string, uuidv7 bool) string {
	sql = strings.ReplaceAll(sql, "public.outbox", pgx.Identifier{schema, name}.Sanitize())
	if uuidv7 {
		sql = strings.ReplaceAll(sql, "gen_random_uuid()", "uuidv7()")
	}
	return sql
}

// DropSQL is what Drop runs.
func (o Outbox) DropSQL() (string, error) {
	objects, err := o.drops()
	return script(objects, true), err
}

// madeByUs is true of a table that Create has made: its comment tells. A partition has another one.
const madeByUs = `obj_description(c.oid, 'pg_class') like 'Events to publish.%'`

// Made names the outbox tables of the database that Create has made, as "schema.table".
func Made(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, `select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p') and `+madeByUs+` order by 1`)
	if err != nil {
		return nil, fmt.Errorf("look for outbox tables: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for outbox tables: %w", err)
	}
	return names, nil
}

// Drop drops the table, with all rows in it, and the function that inserts into it. A table that was not made by Create
// stays; the comment on it tells.
func (o Outbox) Drop(ctx context.Context, conn *pgx.Conn) error {
	objects, err := o.drops()
	if err != nil {
		return err
	}
	if err := drop(ctx, conn, objects); err != nil {
		return fmt.Errorf("drop outbox table %s: %w", o.table(), err)
	}
	return nil
}

func (o Outbox) drops() ([]object, error) {
	schemaName, name, err := split(o.table())
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, f := range []struct{ publish, payload string }{{"publish", "jsonb"}, {"publish_bytes", "bytea"}} { // whatever form o says
		objects = append(objects, object{
			`select exists (select from pg_depend d join pg_proc p on p.oid = d.objid and d.classid = 'pg_proc'::regclass
				join pg_namespace pn on pn.oid = p.pronamespace join pg_class c on c.oid = d.refobjid join pg_namespace n on n.oid = c.relnamespace
				where pn.nspname = 'outrider' and p.proname = $1 and n.nspname = $2 and c.relname = $3)`,
			[]any{f.publish, schemaName, name},
			"drop function if exists outrider." + f.publish + "(text, text, text, " + f.payload + ", jsonb);",
		})
	}
	return append(objects, object{
		`select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2 and ` + madeByUs + `)`,
		[]any{schemaName, name},
		"drop table if exists " + pgx.Identifier{schemaName, name}.Sanitize() + ";",
	}), nil
}
