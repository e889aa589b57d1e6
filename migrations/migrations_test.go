package migrations_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/migrations"
	"github.com/outrider-relay/outrider/test/harness"
)

func query[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) (value T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// become makes an ordinary role with the rights that the grants give it, and takes it on until the test ends.
func become(t *testing.T, conn *pgx.Conn, role string, grants ...string) {
	t.Helper()
	harness.Exec(t, conn, "create role "+role)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, sql := range []string{"reset role", "drop owned by " + role, "drop role " + role} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
	})
	for _, grant := range grants {
		harness.Exec(t, conn, "grant "+grant+" to "+role)
	}
	harness.Exec(t, conn, "set role "+role)
}

// everyForm has each form that an outbox table can have.
var everyForm = []migrations.Outbox{
	{Table: "public.ours"},
	{Table: "public.bytes", Binary: true},
	{Table: "public.months", Monthly: true},
	{Table: "public.tutorial", Flavor: migrations.Tutorial},
	{Table: "public.debezium", Flavor: migrations.Debezium},
	{Flavor: migrations.Quarkus},
}

func TestEveryTableAndColumnIsCommented(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	for _, o := range everyForm {
		if err := o.Create(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	const uncommented = `select coalesce(string_agg(c.relname || coalesce('.' || a.attname, ''), ', '), '')
		from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('outrider', 'public')
		cross join lateral (select null::name as attname, 0::smallint as attnum
			union all select attname, attnum from pg_attribute where attrelid = c.oid and attnum > 0) a
		where c.relkind in ('r', 'p') and case when a.attnum = 0 then obj_description(c.oid, 'pg_class') else col_description(c.oid, a.attnum) end is null`
	if missing := query[string](t, conn, uncommented); missing != "" {
		t.Errorf("no comment on %s", missing)
	}
	if tables := query[int](t, conn, "select count(*) from pg_class where relkind in ('r', 'p') and relnamespace in ('outrider'::regnamespace, 'public'::regnamespace)"); tables != 2+len(everyForm)+13 {
		t.Errorf("%d tables looked at, want 2 for checkpoints, %d outboxes and 13 partitions", tables, len(everyForm))
	}
}

func TestRelaysThatStartAtOnceAllSucceed(t *testing.T) {
	for round := range 10 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			// The strictest default: each must still see what the one before it has created.
			url := newURL(t) + "&default_transaction_isolation=serializable"
			var wg sync.WaitGroup
			start := make(chan struct{})
			for range 8 {
				conn := harness.Connect(t, url)
				wg.Go(func() {
					<-start
					if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
						t.Error(err)
					}
				})
			}
			close(start)
			wg.Wait()
		})
	}
}

func TestRoleWithoutCreateSucceedsWhereAllIsThere(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	// Not even USAGE on the schema; and nothing may be tried that a server in recovery refuses.
	become(t, conn, "without_create")
	harness.Exec(t, conn, "begin read only")
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Error(err)
	}
	harness.Exec(t, conn, "rollback")
}

func TestRoleWithoutCreateIsToldWhatItCannotMake(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	become(t, conn, "without_right")
	err := migrations.EnsureCheckpoint(t.Context(), conn)
	if err == nil || !strings.Contains(err.Error(), "create the checkpoint tables") || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("%v, want permission denied", err)
	}
}

// Only the table is missing: the right to create a schema must not be asked for.
func TestOnlyWhatIsMissingIsCreated(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	harness.Exec(t, conn, "create schema outrider")
	become(t, conn, "tables_only", "create, usage on schema outrider")
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Error(err)
	}
}

func TestPrintedSQLCanBeRunTwice(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	harness.Exec(t, conn, "set client_min_messages = warning")
	uuidv7 := query[bool](t, conn, "select to_regprocedure('pg_catalog.uuidv7()') is not null")
	for range 2 {
		harness.Exec(t, conn, migrations.CheckpointSQL())
		for _, o := range everyForm {
			sql, err := o.SQL(uuidv7)
			if err != nil {
				t.Fatal(err)
			}
			harness.Exec(t, conn, sql)
		}
	}
}

// A table of the application's own must not look as if it were made here: it would be dropped one day.
func TestPrintedSQLTouchesNothingThatIsThere(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	harness.Exec(t, conn, "set client_min_messages = warning; create table public.outbox (mine int)")
	create(t, conn, migrations.Outbox{Table: "public.first"})
	for _, table := range []string{"public.outbox", "public.second"} {
		o := migrations.Outbox{Table: table}
		sql, err := o.SQL(false)
		if err != nil {
			t.Fatal(err)
		}
		harness.Exec(t, conn, sql)
	}
	query[string](t, conn, `select outrider.publish('order', '7', 'placed', '{}')::text`)
	if n := query[int](t, conn, `select count(*) from public.first`); n != 1 {
		t.Errorf("%d rows, want the one that publish made, which goes on inserting there", n)
	}
	sql, err := migrations.Outbox{Table: "public.outbox"}.DropSQL()
	if err != nil {
		t.Fatal(err)
	}
	harness.Exec(t, conn, sql)
	if n := query[int](t, conn, `select count(*) from pg_attribute where attrelid = 'public.outbox'::regclass and attname = 'mine'`); n != 1 {
		t.Error("the application's own table is gone")
	}
}

func TestPublishNeedsTheRightToInsertAlone(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	if err := (migrations.Outbox{}).Create(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	become(t, conn, "application", "usage on schema outrider", "insert on public.outbox")
	// A search path under the caller's control must not redirect what publish does.
	harness.Exec(t, conn, `create temp table outbox (id uuid, aggregate_type text, aggregate_id text, event_type text, payload jsonb, headers jsonb)`)
	id := query[string](t, conn, `select outrider.publish('order', '7', 'placed', '{"n": 1}')::text`)
	null := query[string](t, conn, `select outrider.publish('order', '8', 'gone', null, null)::text`)
	harness.Exec(t, conn, `insert into public.outbox (aggregate_type, aggregate_id, event_type) values ('order', '9', 'plain')`)
	harness.Exec(t, conn, "reset role")

	got := query[[]string](t, conn, `select array_agg(concat_ws(' ', aggregate_type, aggregate_id, event_type,
		coalesce(payload::text, 'null'), headers, case id::text when $1 then 'first' when $2 then 'second' else 'default' end) order by aggregate_id)
		from public.outbox`, id, null)
	want := []string{`order 7 placed {"n": 1} {} first`, `order 8 gone null {} second`, `order 9 plain null {} default`}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("rows\n%q, want\n%q", got, want)
	}
	// uuidv7 where the server has it, in the default and in publish alike.
	version := "4"
	if query[bool](t, conn, "select to_regprocedure('pg_catalog.uuidv7()') is not null") {
		version = "7"
	}
	if others := query[int](t, conn, "select count(*) from public.outbox where substr(id::text, 15, 1) <> $1", version); others != 0 {
		t.Errorf("%d ids are not of version %s", others, version)
	}
}

func TestExistingTableIsLeftAsItIs(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	harness.Exec(t, conn, "create table public.outbox (mine int)")
	if err := (migrations.Outbox{Flavor: migrations.Tutorial, Table: "outbox"}).Create(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if columns := query[int](t, conn, "select count(*) from pg_attribute where attrelid = 'public.outbox'::regclass and attnum > 0"); columns != 1 {
		t.Errorf("%d columns, want the 1 that it had", columns)
	}
}

// A table that an older version has made gets what it lacks from whoever may add it; a relay that may not goes on without, and so
// does one that somebody else's look at the table would keep waiting.
func TestTablesOfAnOlderVersionGetWhatTheyLack(t *testing.T) {
	url := newURL(t)
	conn, reader := harness.Connect(t, url), harness.Connect(t, url)
	ensure := func() {
		t.Helper()
		if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	lacks := func() int {
		return query[int](t, reader, `select 1 - count(*) from pg_attribute where attrelid = 'outrider.checkpoint'::regclass and attname = 'kept'`)
	}
	ensure()
	harness.Exec(t, conn, "alter table outrider.checkpoint drop column kept")
	harness.Exec(t, conn, `insert into outrider.checkpoint (name, format, generation, instance, heartbeat_at, system_id, timeline, slot, lsn, delivery, updated_at)
		values ('orders', 1, 1, 'older', now(), '7', 1, 's', '0/1', 'exactly-once', now())`)

	become(t, conn, "relay_of_old", "usage on schema outrider", "select, insert, update on outrider.checkpoint")
	ensure()
	harness.Exec(t, conn, "reset role")
	harness.Exec(t, reader, "begin")
	harness.Exec(t, reader, "select from outrider.checkpoint")
	ensure()
	if lacks() != 1 {
		t.Fatal("the column is there already")
	}
	harness.Exec(t, reader, "commit")
	ensure()
	ensure()
	if lacks() != 0 {
		t.Error("the column is missing still")
	}
	if n := query[int](t, conn, "select count(*) from outrider.checkpoint where name = 'orders' and kept is null"); n != 1 {
		t.Errorf("%d rows of the older version are left as they were", n)
	}
}
