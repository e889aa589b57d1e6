package migrations_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/migrations"
	"github.com/outrider-relay/outrider/test/harness"
)

func create(t *testing.T, conn *pgx.Conn, o migrations.Outbox) {
	t.Helper()
	if err := o.Create(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
}

// objects lists the relations and functions of the schemas that tests write to.
func objects(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	return query[[]string](t, conn, `select array(
		select n.nspname || '.' || o.name from (
			select relnamespace, relname::text from pg_class where relkind in ('r', 'p') union all
			select pronamespace, proname::text from pg_proc union all select oid, '' from pg_namespace where nspname = 'outrider'
		) o (namespace, name) join pg_namespace n on n.oid = o.namespace
		where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1)`)
}

func TestTableNamesAreQuoted(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	harness.Exec(t, conn, `create schema "My ""Shop"`)
	for _, name := range []string{`Out"box`, `o; drop table x; --`, `a'b`, `$$`, `$function$`, `select`} {
		for i, o := range everyForm {
			o.Table = fmt.Sprintf(`My "Shop.%s%d`, name, i)
			if err := o.Create(t.Context(), conn); err != nil {
				t.Errorf("%s: %v", o.Table, err)
				continue
			}
			_, relname, _ := strings.Cut(o.Table, ".")
			if n := query[int](t, conn, "select count(*) from pg_class where relname = $1", relname); n != 1 {
				t.Errorf("%d tables named %s", n, o.Table)
			}
			if err := o.Drop(t.Context(), conn); err != nil {
				t.Errorf("drop %s: %v", o.Table, err)
			}
		}
	}
	if err := migrations.DropCheckpoint(t.Context(), conn); err != nil {
		t.Error(err)
	}
	if left := objects(t, conn); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

func TestFormsThatDoNotExistAreRefused(t *testing.T) {
	for _, c := range []struct {
		outbox migrations.Outbox
		says   string
	}{
		{migrations.Outbox{Table: "."}, "schema.table"},
		{migrations.Outbox{Table: "a."}, "schema.table"},
		{migrations.Outbox{Table: ".b"}, "schema.table"},
		{migrations.Outbox{Table: "a.b.c"}, "schema.table"},
		{migrations.Outbox{Table: "a\x00b"}, "schema.table"},
		{migrations.Outbox{Flavor: "wal2json"}, "wal2json"},
		{migrations.Outbox{Flavor: migrations.Tutorial, Binary: true}, "no binary or monthly form"},
		{migrations.Outbox{Flavor: migrations.Quarkus, Monthly: true}, "no binary or monthly form"},
	} {
		if _, err := c.outbox.SQL(false); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: error %v does not say %q", c.outbox, err, c.says)
		}
	}
}

func TestPublishBytesTakesBytes(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	create(t, conn, migrations.Outbox{Table: "public.bytes", Binary: true})
	create(t, conn, migrations.Outbox{Table: "public.json"})
	id := query[string](t, conn, `select outrider.publish_bytes('order', '7', 'placed', '\x00ff', '{"a": "b"}')::text`)
	got := query[string](t, conn, `select concat_ws(' ', id, aggregate_type, aggregate_id, event_type, payload, headers) from public.bytes`)
	if want := id + ` order 7 placed \x00ff {"a": "b"}`; got != want {
		t.Errorf("row %s, want %s", got, want)
	}
	query[string](t, conn, `select outrider.publish('order', '7', 'placed', '{}')::text`)
	if n := query[int](t, conn, `select count(*) from public.json`); n != 1 {
		t.Errorf("%d rows, want the one that publish made", n)
	}
}

func TestMonthlyPartitionsTakeAYearOfEvents(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	create(t, conn, migrations.Outbox{Table: `public.Outbox`, Monthly: true})
	// The months are those of UTC, wherever the writer lives.
	harness.Exec(t, conn, "set timezone = 'Pacific/Kiritimati'")
	harness.Exec(t, conn, `insert into "Outbox" (aggregate_type, aggregate_id, event_type, created_at)
		select 'order', i::text, 'placed', (date_trunc('month', now() at time zone 'UTC') + make_interval(months => i)) at time zone 'UTC' + edge
		from generate_series(0, 12) i, (values (interval '0'), (interval '28 days' - interval '1 microsecond')) e (edge)`)
	misplaced := query[int](t, conn, `select count(*) from "Outbox" where tableoid::regclass::text <> format('"Outbox_%s"', to_char(created_at at time zone 'UTC', 'YYYY_MM'))`)
	if parts := query[int](t, conn, `select count(distinct tableoid) from "Outbox"`); parts != 13 || misplaced != 0 {
		t.Errorf("%d partitions have rows, %d rows are misplaced", parts, misplaced)
	}
	for _, c := range []struct{ months, added int }{{12, 0}, {14, 2}, {14, 0}, {0, 0}} {
		if n := query[int](t, conn, `select outrider.add_partitions('"Outbox"', $1)`, c.months); n != c.added {
			t.Errorf("%d partitions added for %d months, want %d", n, c.months, c.added)
		}
	}
	// publish needs no partition to be named, and an id is unique in its month at least.
	query[string](t, conn, `select outrider.publish('order', '7', 'placed', '{}')::text`)
	if n := query[int](t, conn, `select count(*) from pg_index where indisprimary and indrelid in (select inhrelid from pg_inherits)`); n < 15 {
		t.Errorf("%d partitions have a primary key, want all 15", n)
	}
	harness.Exec(t, conn, "create table plain (id int)")
	if _, err := conn.Exec(t.Context(), "select outrider.add_partitions('plain')"); err == nil || !strings.Contains(err.Error(), "plain is not partitioned") {
		t.Errorf("a plain table: %v", err)
	}
}

func TestDropLeavesWhatWasNotMade(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	harness.Exec(t, conn, "create table public.outbox (mine int)")
	create(t, conn, migrations.Outbox{Flavor: migrations.Tutorial}) // finds that one
	create(t, conn, migrations.Outbox{Table: "public.first"})
	create(t, conn, migrations.Outbox{Table: "public.second"}) // publish goes on inserting into the first
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	all := objects(t, conn)
	remove := func(drop func() error, removed ...string) {
		t.Helper()
		for range 2 { // a second time there is nothing to do
			if err := drop(); err != nil {
				t.Fatal(err)
			}
		}
		all = slices.DeleteFunc(all, func(o string) bool { return slices.Contains(removed, o) })
		if left := objects(t, conn); !slices.Equal(left, all) {
			t.Errorf("%q are left, want %q", left, all)
		}
	}
	outbox := func(o migrations.Outbox) func() error {
		return func() error { return o.Drop(t.Context(), conn) }
	}
	checkpoint := func() error { return migrations.DropCheckpoint(t.Context(), conn) }
	remove(outbox(migrations.Outbox{Flavor: migrations.Tutorial}))
	remove(outbox(migrations.Outbox{Table: "public.second"}), "public.second")
	remove(checkpoint, "outrider.checkpoint", "outrider.partition")
	remove(outbox(migrations.Outbox{Table: "public.first"}), "public.first", "outrider.publish")
	remove(checkpoint, "outrider.")
}

func TestPrintedDropCanBeRunTwice(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	harness.Exec(t, conn, "set client_min_messages = warning")
	for _, o := range everyForm {
		create(t, conn, o)
	}
	for range 2 {
		for _, o := range everyForm {
			sql, err := o.DropSQL()
			if err != nil {
				t.Fatal(err)
			}
			harness.Exec(t, conn, sql)
		}
		harness.Exec(t, conn, migrations.DropCheckpointSQL())
	}
	if left := objects(t, conn); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

func TestGrantsAreAllThatARelayNeeds(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	harness.Exec(t, conn, `create schema "Shop"`)
	create(t, conn, migrations.Outbox{Table: "Shop.Outbox"})
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	become(t, conn, `"Relay"`)
	harness.Exec(t, conn, "reset role")
	sql, err := migrations.GrantSQL("Relay", "Shop.Outbox")
	if err != nil {
		t.Fatal(err)
	}
	harness.Exec(t, conn, sql)
	harness.Exec(t, conn, `set role "Relay"`)
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Error(err)
	}
	for _, sql := range []string{
		`select from "Shop"."Outbox"`,
		`insert into outrider.checkpoint (name, format, generation, instance, heartbeat_at, system_id, timeline, slot, lsn, delivery, updated_at)
			values ('orders', 1, 1, 'me', now(), '7', 1, 'outrider_orders', '0/1', 'exactly-once', now())`,
		`insert into outrider.partition (name, topic, partition, scan_from) values ('orders', 't', 0, 0)`,
		`update outrider.checkpoint set generation = 2`, `update outrider.partition set owned = true`,
		`delete from outrider.partition`, `delete from outrider.checkpoint`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if _, err := migrations.GrantSQL("Relay", "a.b.c"); err == nil {
		t.Error("a.b.c passed for a table name")
	}
}
