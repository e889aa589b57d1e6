package migrations

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// An object is something that a migration makes or drops. It is looked for in the catalogs first: creating "if not exists"
// what is there already asks for the right to create it.
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

func column(schema, table, name, sql string) object {
	return object{`select exists (select from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = $1 and c.relname = $2 and a.attname = $3 and not a.attisdropped)`, []any{schema, table, name}, sql}
}

// script is what create or drop run, for somebody else to run: with the same looks, so that it leaves what is there as it is, and
// what was not made by it.
func script(objects []object, exists bool) string {
	parts := make([]string, len(objects))
	for i, o := range objects {
		var args []string
		for n, arg := range o.args {
			args = append(args, fmt.Sprint("$", n+1), "'"+strings.ReplaceAll(fmt.Sprint(arg), "'", "''")+"'")
		}
		look := strings.NewReplacer(args...).Replace(o.exists)
		if exists {
			look = "not (" + look + ")"
		}
		parts[i] = Unless(look, o.sql)
	}
	return strings.Join(parts, "\n")
}

// Unless is SQL that runs sql, a command or several, where the query look for one boolean does not say true. Postgres reads
// sql only then: it may speak of what there is not.
func Unless(look, sql string) string {
	run := "execute " + dollarQuote("\n"+strings.TrimSpace(sql)+"\n")
	return "do " + dollarQuote("\nbegin\nif ("+look+") is not true then "+run+"; end if;\nend\n") + ";\n"
}

// dollarQuote makes a literal of text that people can read.
func dollarQuote(text string) string {
	tag := "$sql$"
	for strings.Contains(text, tag) {
		tag = strings.TrimSuffix(tag, "$") + "_$"
	}
	return tag + text + tag
}

// lock is the advisory lock under which objects are made and dropped, an arbitrary number of our own: "create if not
// exists" of the same name in two transactions fails in one of them. outrider.add_partitions takes it too.
const lock = 0x6f75747269646572 // "outrider"

// create makes the objects that do not exist, in order.
func create(ctx context.Context, conn *pgx.Conn, objects []object) error {
	if complete, err := allExist(ctx, conn, objects); err != nil || complete {
		return err
	}
	return alone(ctx, conn, func(tx pgx.Tx) error { return run(ctx, tx, objects, false) })
}

// drop drops the objects that exist, in order.
func drop(ctx context.Context, conn *pgx.Conn, objects []object) error {
	return alone(ctx, conn, func(tx pgx.Tx) error { return run(ctx, tx, objects, true) })
}

// alone runs f in a transaction that waits for others like it.
func alone(ctx context.Context, conn *pgx.Conn, f func(pgx.Tx) error) error {
	// Read committed, whatever the defaults: a second look must see what another one did while we waited.
	options := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	return pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(lock)); err != nil {
			return err
		}
		return f(tx)
	})
}

// run executes the SQL of each object that exists, or does not, as it is said.
func run(ctx context.Context, tx pgx.Tx, objects []object, exists bool) error {
	for _, o := range objects {
		there, err := o.there(ctx, tx)
		if err != nil {
			return err
		}
		if there != exists {
			continue
		}
		if _, err := tx.Exec(ctx, o.sql); err != nil {
			return err
		}
	}
	return nil
}

func allExist(ctx context.Context, q querier, objects []object) (bool, error) {
	for _, o := range objects {
		if there, err := o.there(ctx, q); err != nil || !there {
			return false, err
		}
	}
	return true, nil
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (o *object) there(ctx context.Context, q querier) (exists bool, err error) {
	err = q.QueryRow(ctx, o.exists, o.args...).Scan(&exists)
	return exists, err
}
