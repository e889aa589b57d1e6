package cdc

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/migrations"
)

const outboxTable = `create table outbox (id uuid primary key, aggregate_type text, aggregate_id text, event_type text, payload jsonb)`

// found says whether there is a finding of a level that holds all of says.
func found(in *Inspection, level string, says ...string) bool {
	return slices.ContainsFunc(in.Findings, func(f Finding) bool {
		text := f.What + ": " + f.Why + ". " + f.Repair
		return f.Level == level && !slices.ContainsFunc(says, func(s string) bool { return !strings.Contains(text, s) })
	})
}

func failures(in *Inspection) (list []string) {
	for _, f := range in.Findings {
		if f.Level == Fail {
			list = append(list, f.What)
		}
	}
	return list
}

// role makes a role for this test alone, and gives the URL under which it connects.
func role(t *testing.T, conn *pgx.Conn, pg *Postgres, attributes string) (name, asRole string) {
	t.Helper()
	name = "r" + strings.TrimPrefix(conn.Config().Database, "t")
	run(t, conn, "create role "+name+" login "+attributes)
	u, err := url.Parse(pg.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(name)
	return name, u.String()
}

func TestInspectionFindsWhatKeepsARelayFromWorking(t *testing.T) {
	makeSlot := func(t *testing.T, conn *pgx.Conn, pg *Postgres) {
		run(t, conn, `select pg_create_logical_replication_slot($1, 'pgoutput')`, pg.Slot)
	}
	publish := func(sql string) func(*testing.T, *pgx.Conn, *Config) {
		return func(t *testing.T, conn *pgx.Conn, _ *Config) { run(t, conn, sql) }
	}
	// row stores a checkpoint that agrees with the slot but for what change says.
	row := func(change string) func(*testing.T, *pgx.Conn, *Config) {
		return func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			run(t, conn, `create publication outrider for table outbox with (publish = 'insert')`)
			makeSlot(t, conn, &cfg.Postgres)
			if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			run(t, conn, `insert into outrider.checkpoint (name, format, generation, instance, heartbeat_at, system_id, timeline, slot, lsn, delivery, updated_at)
				select 'orders', $2, 1, 'me', now(), (select system_identifier::text from pg_control_system()), 1, slot_name, confirmed_flush_lsn, 'exactly-once', now()
				from pg_replication_slots where slot_name = $1`, cfg.Postgres.Slot, checkpoint.Format)
			if change != "" {
				run(t, conn, change)
			}
		}
	}
	for _, c := range []struct {
		name  string
		arise func(*testing.T, *pgx.Conn, *Config)
		level string
		says  []string
	}{
		{"FirstStart", publish(`select`), OK, []string{"neither checkpoint nor slot"}},
		{"CheckpointAgrees", row(""), OK, []string{"the slot agrees with it"}},
		{"SlotWithoutCheckpoint", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			run(t, conn, `create publication outrider for table outbox with (publish = 'insert')`)
			makeSlot(t, conn, &cfg.Postgres)
		}, OK, []string{"begins where the slot stands"}},
		{"SlotGone", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			row("")(t, conn, cfg)
			run(t, conn, dropFree, cfg.Postgres.Slot)
		}, Fail, []string{"blocked (gap)", "does not exist", "--accept-loss"}},
		{"SlotAhead", row(`update outrider.checkpoint set lsn = lsn - 1`), Fail, []string{"blocked (gap)", "by somebody else"}},
		{"CheckpointBeyondTheEnd", row(`update outrider.checkpoint set lsn = 'FFFF/0'`), Fail, []string{"blocked (diverged)", "restored"}},
		{"OtherSystem", row(`update outrider.checkpoint set system_id = '7'`), Fail, []string{"blocked (other cluster)", "--accept-new-cluster"}},
		{"OtherSlot", row(`update outrider.checkpoint set slot = 'other'`), Fail, []string{"belongs to slot other"}},
		{"OtherPrefixes", row(`update outrider.checkpoint set decode_hash = 'other'`), Fail, []string{"have changed since the last session"}},
		{"Verdict", row(`update outrider.checkpoint set verdict = '{"id": "1", "case": "poison", "reason": "row 7", "advice": "outrider resolve --skip", "options": ["skip"]}'`), Fail, []string{"blocked (poison): row 7", "--skip"}},
		{"DeliveryChangesAfterACrash", row(`update outrider.checkpoint set delivery = 'at-least-once'`), Warn, []string{"has not ended cleanly", "kafka.delivery: at-least-once"}},
		{"OtherRelays", row(`insert into outrider.checkpoint (name, format, generation, instance, heartbeat_at, system_id, timeline, slot, lsn, delivery, updated_at)
			select 'billing', format, generation, instance, heartbeat_at, system_id, timeline, 'other', lsn, delivery, updated_at from outrider.checkpoint`), OK, []string{"other relays of this database: billing"}},
		{"ReplicationConnection", publish(`select`), OK, []string{"a replication connection reaches the same server"}},
		{"UnloggedPartition", publish(`drop table outbox; create table outbox (id int, payload text) partition by range (id); create unlogged table young partition of outbox for values from (0) to (9)`), Fail, []string{"partition public.young of public.outbox is unlogged", `alter table "public"."young" set logged`}},
		{"RoleHasFewConnections", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			_, cfg.Postgres.URL = role(t, conn, &cfg.Postgres, "replication connection limit 2")
		}, Fail, []string{"no more than 2 connections", "connection limit -1"}},
		{"RoleHasFewConnectionsForAStandby", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			_, cfg.Postgres.URL = role(t, conn, &cfg.Postgres, "replication connection limit 5")
		}, Warn, []string{"one that stands by as many"}},
		{"DeletesOfATableWithoutIdentity", publish(`alter table outbox drop constraint outbox_pkey; create publication outrider for table outbox`), Fail, []string{"public.outbox has no replica identity", "each UPDATE and DELETE on it fails"}},
		{"PublicationHoldsTheCheckpoint", publish(`create publication outrider for all tables with (publish = 'insert')`), Fail, []string{"holds schema outrider"}},
		{"NoTable", publish(`drop table outbox`), Fail, []string{"table public.outbox does not exist"}},
		{"UnlimitedWAL", publish(`select`), Warn, []string{"max_slot_wal_keep_size is unlimited", "'50GB'"}},
		{"UnlimitedWALWithAnAlarm", func(_ *testing.T, _ *pgx.Conn, cfg *Config) { cfg.Postgres.MaxRetainedWAL = 1 << 30 }, OK, []string{"alarm from 1024 MiB"}},
		{"RoleMayNothing", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			_, cfg.Postgres.URL = role(t, conn, &cfg.Postgres, "")
		}, Fail, []string{"may not replicate", "alter role"}},
		{"RoleMayNotCreateTheSchema", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			_, cfg.Postgres.URL = role(t, conn, &cfg.Postgres, "replication")
		}, Fail, []string{"schema outrider does not exist, and the role may not create it", "create schema outrider authorization"}},
		{"RoleMayNotPublish", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			_, cfg.Postgres.URL = role(t, conn, &cfg.Postgres, "replication")
		}, Fail, []string{"publication outrider does not exist, and the role may not create it", "as the owner: create publication"}},
		{"RoleMayNotRead", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			_, cfg.Postgres.URL = role(t, conn, &cfg.Postgres, "replication")
		}, Warn, []string{"may not read public.outbox", "grant select"}},
		{"RoleMayNotDelete", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			_, cfg.Postgres.URL = role(t, conn, &cfg.Postgres, "replication")
			cfg.Retention = 1
		}, Fail, []string{"may not delete from public.outbox", `grant select, delete on "public"."outbox" to "r`}},
		{"RetentionWithoutAnAge", func(_ *testing.T, _ *pgx.Conn, cfg *Config) { cfg.Retention = 1 }, Fail, []string{"public.outbox has no column that tells the age", "outbox.columns.timestamp"}},
		{"RoleMayNotWriteItsCheckpoint", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			var name string
			name, cfg.Postgres.URL = role(t, conn, &cfg.Postgres, "replication")
			run(t, conn, `grant usage on schema outrider to `+name)
			run(t, conn, `grant select on all tables in schema outrider to `+name)
		}, Fail, []string{"the role may not write its checkpoint", "grant select, insert, update, delete"}},
		{"RoleMayNotEvenLook", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			run(t, conn, `alter table outbox drop constraint outbox_pkey; create publication outrider for table outbox`)
			_, cfg.Postgres.URL = role(t, conn, &cfg.Postgres, "replication")
		}, Fail, []string{"public.outbox has no replica identity"}}, // though the checkpoint could not be read before
		{"IdleSessionsEnd", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			var name string
			name, cfg.Postgres.URL = role(t, conn, &cfg.Postgres, "superuser")
			run(t, conn, `alter role `+name+` set idle_session_timeout = '1min'`)
		}, Warn, []string{"idle_session_timeout is 1m0s", "set idle_session_timeout = 0"}},
		{"ReadOnlyRole", func(t *testing.T, conn *pgx.Conn, cfg *Config) {
			var name string
			name, cfg.Postgres.URL = role(t, conn, &cfg.Postgres, "superuser")
			run(t, conn, `alter role `+name+` set default_transaction_read_only = on`)
		}, Fail, []string{"default_transaction_read_only is on"}},
		{"NobodyAnswers", func(_ *testing.T, _ *pgx.Conn, cfg *Config) {
			cfg.Postgres.URL = "postgres://127.0.0.1:1/x"
		}, Fail, []string{"Postgres cannot be asked"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pg := database(t, outboxTable)
			pg.Tables = []string{"public.outbox"}
			conn := control(t, pg)
			cfg := &Config{Name: "orders", Delivery: ExactlyOnce, Postgres: *pg}
			t.Cleanup(func() { dropRoles(t, conn) })
			c.arise(t, conn, cfg)
			in := Inspect(t.Context(), cfg)
			if !found(in, c.level, c.says...) {
				t.Errorf("no finding of level %s says %q in\n%v", c.level, c.says, in.Findings)
			}
			if list := failures(in); c.level != Fail && len(list) > 0 && !strings.HasPrefix(c.name, "Role") {
				t.Errorf("%q fail", list)
			}
		})
	}
}

// dropRoles drops what role has made: roles are the whole server's.
func dropRoles(t *testing.T, conn *pgx.Conn) {
	name := "r" + strings.TrimPrefix(conn.Config().Database, "t")
	for _, sql := range []string{`drop owned by ` + name, `drop role ` + name} {
		var exists bool
		if err := conn.QueryRow(t.Context(), `select exists (select from pg_roles where rolname = $1)`, name).Scan(&exists); err != nil || !exists {
			return
		}
		run(t, conn, sql)
	}
}

func TestInspectionNamesWhatANewSlotWaitsFor(t *testing.T) {
	pg := database(t, outboxTable)
	pg.Tables = []string{"public.outbox"}
	in := &Inspection{cfg: &Config{Postgres: *pg}, conn: control(t, pg)}
	writer := control(t, pg)
	run(t, writer, `begin`)
	run(t, writer, `create table held (id int)`)
	if err := in.lookForWaits(t.Context(), time.Hour); err != nil || len(in.Findings) > 0 {
		t.Errorf("of a transaction that has just begun: %v, %v", in.Findings, err)
	}
	if err := in.lookForWaits(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprint("pid ", writer.PgConn().PID())
	if !found(in, Warn, pid, "has been open since", "pg_terminate_backend") {
		t.Errorf("%s is not named in %v", pid, in.Findings)
	}
}

func TestInspectionDescribesTablesAsTheStreamWill(t *testing.T) {
	pg := database(t, outboxTable+`; create table other (id int, payload text); create publication outrider for table outbox, other with (publish = 'insert')`)
	pg.Tables = []string{"public.outbox"}
	in := Inspect(t.Context(), &Config{Name: "orders", Postgres: *pg})
	if len(in.Tables) != 1 || in.Tables[0].String() != "public.outbox" || len(in.Tables[0].Columns) != 5 {
		t.Fatalf("%+v", in.Tables)
	}
	if c := in.Tables[0].Columns[0]; c.Name != "id" || c.Type != 2950 || !c.NotNull {
		t.Errorf("%+v", c)
	}
}

func TestInspectionReadsRowsAsTheStreamBringsThem(t *testing.T) {
	pg := database(t, `create table outbox (id int, kind text, at timestamptz, payload jsonb) partition by range (id);
		create table old partition of outbox for values from (0) to (1000); create table young partition of outbox for values from (1000) to (2000);
		insert into outbox select i, 'k', '2026-01-02 03:04:05+02', '{"n": 1}' from generate_series(0, 1499) i;
		insert into outbox values (1500, null, null, (select jsonb_agg(md5(i::text)) from generate_series(1, 1000) i)), (1501, '', null, null)`)
	pg.Tables = []string{"public.outbox"}
	in := Inspect(t.Context(), &Config{Name: "orders", Postgres: *pg})
	if len(in.Rows) != 2*sampleRows {
		t.Fatalf("%d rows, not %d of each partition: %v", len(in.Rows), sampleRows, in.Findings)
	}
	first := in.Rows[0]
	if v := first.Values; string(v[0].Data) != "1501" || v[1].Format != decoder.Text || len(v[1].Data) > 0 || v[2].Format != decoder.Null || first.Relation != in.Tables[0] {
		t.Errorf("the last row is %+v; one that is too large comes before it", first)
	}
	if v := in.Rows[1].Values; string(v[0].Data) != "1499" || string(v[2].Data) != "2026-01-02 01:04:05+00" || string(v[3].Data) != `{"n": 1}` {
		t.Errorf("the row before is %.500s", fmt.Sprintf("%+v", in.Rows[1]))
	}
}
