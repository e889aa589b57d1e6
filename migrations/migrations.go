// Package migrations is the SQL that an outbox needs, embedded, and its application.
package migrations

import (
	"context"
	_ "embed"
	"fmt"

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

// CheckpointSQL is what EnsureCheckpoint runs.
func CheckpointSQL() string { return script(checkpointObjects(), false) }

// EnsureCheckpoint creates what is missing of schema outrider and its tables checkpoint and partition. Any number of
// relays may call it at once; where all is there, a role that may only read the catalogs can.
func EnsureCheckpoint(ctx context.Context, conn *pgx.Conn) error {
	if err := create(ctx, conn, checkpointObjects()); err != nil {
		return fmt.Errorf("create the checkpoint tables: %w", err)
	}
	return nil
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
