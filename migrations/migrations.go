// Package migrations is the SQL that an outbox needs, embedded, and its application.
package migrations

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Every file can be run again, by hand too, and leaves what is there as it is.
var (
	//go:embed schema.sql
	schemaSQL string
	//go:embed checkpoint.sql
	checkpointSQL string
	//go:embed partition.sql
	partitionSQL string
	//go:embed kept.sql
	keptSQL string
	//go:embed outbox.sql
	outboxSQL string
	//go:embed publish.sql
	publishSQL string
	//go:embed add_partitions.sql
	addPartitionsSQL string
	//go:embed tutorial.sql
	tutorialSQL string
	//go:embed debezium.sql
	debeziumSQL string
	//go:embed quarkus.sql
	quarkusSQL string
)

func checkpointObjects() []object {
	return []object{
		schema(),
		relation("outrider", "checkpoint", checkpointSQL),
		relation("outrider", "partition", partitionSQL),
	}
}

// later are the columns that versions after the first have added.
func later() []object {
	return []object{column("outrider", "checkpoint", "kept", keptSQL)}
}

// CheckpointSQL is what EnsureCheckpoint runs.
func CheckpointSQL() string { return script(append(checkpointObjects(), later()...), false) }

// LaterSQL adds what a table that an older version has made does not have. It takes the table's owner.
func LaterSQL() string { return script(later(), false) }

// EnsureCheckpoint creates what is missing of schema outrider and its tables checkpoint and partition. Any number of
// relays may call it at once; where all is there, a role that may only read the catalogs can. A column that an older version has
// not made is added where the role may; a relay does without it.
func EnsureCheckpoint(ctx context.Context, conn *pgx.Conn) error {
	err := create(ctx, conn, checkpointObjects())
	if err == nil {
		err = addColumns(ctx, conn)
	}
	if err != nil {
		return fmt.Errorf("create the checkpoint tables: %w", err)
	}
	return nil
}

// The SQLSTATEs of an attempt that may be made again another time.
const (
	insufficientPrivilege = "42501"
	lockNotAvailable      = "55P03"
)

// addColumns adds the columns that are missing. It waits for nobody who reads the table: the saves of the relay that leads would
// queue behind it.
func addColumns(ctx context.Context, conn *pgx.Conn) error {
	complete, err := allExist(ctx, conn, later())
	if err != nil || complete {
		return err
	}
	err = alone(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local lock_timeout = '1s'"); err != nil {
			return err
		}
		return run(ctx, tx, later(), false)
	})
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code == insufficientPrivilege || refused.Code == lockNotAvailable) {
		return nil
	}
	return err
}

// checkpointDrops has the schema last, which stays where something else is in it.
func checkpointDrops() []object {
	return []object{
		relation("outrider", "partition", "drop table if exists outrider.partition;"),
		relation("outrider", "checkpoint", "drop table if exists outrider.checkpoint;"),
		function("outrider", "add_partitions", "drop function if exists outrider.add_partitions(regclass, integer);"),
		{
			`select exists (select from pg_namespace n where nspname = $1
			and not exists (select from pg_class where relnamespace = n.oid) and not exists (select from pg_proc where pronamespace = n.oid))`,
			[]any{"outrider"},
			"drop schema if exists outrider;",
		},
	}
}

// DropCheckpointSQL is what DropCheckpoint runs.
func DropCheckpointSQL() string { return script(checkpointDrops(), true) }

// DropCheckpoint drops the checkpoints of all relays of the database, and schema outrider unless something else is in it.
// No relay may run: its next save fails, and its next start is a first one.
func DropCheckpoint(ctx context.Context, conn *pgx.Conn) error {
	if err := drop(ctx, conn, checkpointDrops()); err != nil {
		return fmt.Errorf("drop the checkpoint tables: %w", err)
	}
	return nil
}

// GrantSQL gives a relay's role what it needs of Postgres, besides the attribute REPLICATION: its own tables, and the right to
// look at the outbox tables, "schema.table" each, where it says what it does not send. It needs no more to relay them.
func GrantSQL(role string, tables ...string) (string, error) {
	to := " to " + pgx.Identifier{role}.Sanitize() + ";\n"
	sql := "grant usage on schema outrider" + to +
		"grant select, insert, update, delete on outrider.checkpoint, outrider.partition" + to
	for _, table := range tables {
		schema, name, err := split(table)
		if err != nil {
			return "", err
		}
		sql += "grant usage on schema " + pgx.Identifier{schema}.Sanitize() + to +
			"grant select on " + pgx.Identifier{schema, name}.Sanitize() + to
	}
	return sql, nil
}
