// Package migrations is the SQL that an outbox needs, embedded, and its application.
package migrations

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Every file can be run again, by hand too, and leaves what is there as it is.
var (
	//go:embed schema.sql
	schemaSQL string
	//go:embed checkpoint.sql
	checkpointSQL string
	//go:embed partition.sql
	partitionSQL string
	//go:embed outbox.sql
	outboxSQL string
	//go:embed publish.sql
	publishSQL string
	//go:embed tutorial.sql
	tutorialSQL string
)

// Flavor is a layout of an outbox table.
type Flavor string

const (
	// Outrider is our own table, public.outbox unless named otherwise, with the function outrider.publish.
	Outrider Flavor = "outrider"
	// Tutorial is the table that most texts about the outbox pattern show, made for a poller.
	Tutorial Flavor = "tutorial"
)

// An object is something that a migration makes, looked for in the catalogs first: creating "if not exists" what is
// there already asks for the right to create it.
type object struct {
	exists string // a query for one boolean
	args   []any
	sql    string
}

func schema() object {
	return object{"select exists (select from pg_namespace where nspname = $1)", []any{"outrider"}, schemaSQL}
}

func relation(schema, name, sql string) object {
	// Through the catalogs, since to_regclass fails for a role without USAGE on the schema.
	return object{`select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = $1 and c.relname = $2)`, []any{schema, name}, sql}
}

func function(schema, name, sql string) object {
	return object{`select exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
		where n.nspname = $1 and p.proname = $2)`, []any{schema, name}, sql}
}

func checkpointObjects() []object {
	return []object{
		schema(),
		relation("outrider", "checkpoint", checkpointSQL),
		relation("outrider", "partition", partitionSQL),
	}
}

func outboxObjects(flavor Flavor, table string, uuidv7 bool) ([]object, error) {
	schemaName, name, err := split(table)
	if err != nil {
		return nil, err
	}
	switch flavor {
	case Outrider:
		return []object{
			relation(schemaName, name, adapt(outboxSQL, schemaName, name, uuidv7)),
			schema(),
			function("outrider", "publish", adapt(publishSQL, schemaName, name, uuidv7)),
		}, nil
	case Tutorial:
		return []object{relation(schemaName, name, adapt(tutorialSQL, schemaName, name, uuidv7))}, nil
	}
	return nil, fmt.Errorf("unknown flavor %q of an outbox table: it is %s or %s", flavor, Outrider, Tutorial)
}

// split reads "schema.table", or "table" for one in schema public. The names are taken as they are, upper case included.
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

// adapt puts the table's name into SQL that is written for public.outbox, and version 7 ids, which keep an index's
// inserts together, where the server makes them. The files keep both words out of their literals.
func adapt(sql, schema, name string, uuidv7 bool) string {
	sql = strings.ReplaceAll(sql, "public.outbox", pgx.Identifier{schema, name}.Sanitize())
	if uuidv7 {
		sql = strings.ReplaceAll(sql, "gen_random_uuid()", "uuidv7()")
	}
	return sql
}

// CheckpointSQL is what EnsureCheckpoint runs where nothing exists.
func CheckpointSQL() string { return join(checkpointObjects()) }

// OutboxSQL is what CreateOutbox runs where nothing exists. uuidv7 says that the server has that function
// (PostgreSQL 18 and later).
func OutboxSQL(flavor Flavor, table string, uuidv7 bool) (string, error) {
	objects, err := outboxObjects(flavor, table, uuidv7)
	return join(objects), err
}

func join(objects []object) string {
	parts := make([]string, len(objects))
	for i, o := range objects {
		parts[i] = o.sql
	}
	return strings.Join(parts, "\n")
}

// EnsureCheckpoint creates what is missing of schema outrider and its tables checkpoint and partition. Any number of
// relays may call it at once; where all is there, a role that may only read the catalogs can.
func EnsureCheckpoint(ctx context.Context, conn *pgx.Conn) error {
	if err := create(ctx, conn, checkpointObjects()); err != nil {
		return fmt.Errorf("create the checkpoint tables: %w", err)
	}
	return nil
}

// CreateOutbox creates an outbox table, "schema.table", unless there is one of that name, which is left as it is.
// With flavor Outrider comes the function outrider.publish, which inserts into the first table that was made with it.
func CreateOutbox(ctx context.Context, conn *pgx.Conn, flavor Flavor, table string) error {
	var uuidv7 bool
	err := conn.QueryRow(ctx, "select to_regprocedure('pg_catalog.uuidv7()') is not null").Scan(&uuidv7)
	if err != nil {
		return fmt.Errorf("create outbox table %s: %w", table, err)
	}
	objects, err := outboxObjects(flavor, table, uuidv7)
	if err != nil {
		return err
	}
	if err := create(ctx, conn, objects); err != nil {
		return fmt.Errorf("create outbox table %s: %w", table, err)
	}
	return nil
}

// lock is the advisory lock under which objects are created, an arbitrary number of our own: "create if not exists"
// of the same name in two transactions fails in one of them.
const lock = 0x6f75747269646572 // "outrider"

func create(ctx context.Context, conn *pgx.Conn, objects []object) error {
	if absent, err := missing(ctx, conn, objects); err != nil || len(absent) == 0 {
		return err
	}
	// Read committed, whatever the defaults: the second look must see what another one created while we waited.
	options := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	return pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(lock)); err != nil {
			return err
		}
		absent, err := missing(ctx, tx, objects)
		if err != nil {
			return err
		}
		for _, o := range absent {
			if _, err := tx.Exec(ctx, o.sql); err != nil {
				return err
			}
		}
		return nil
	})
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func missing(ctx context.Context, q querier, objects []object) (absent []object, err error) {
	for _, o := range objects {
		var exists bool
		if err := q.QueryRow(ctx, o.exists, o.args...).Scan(&exists); err != nil {
			return nil, err
		}
		if !exists {
			absent = append(absent, o)
		}
	}
	return absent, nil
}
