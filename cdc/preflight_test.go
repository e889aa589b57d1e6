package cdc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// outboxSQL is what a relay finds where all is well.
const outboxSQL = `
create table outbox (id bigserial, payload jsonb);
create publication outrider for table outbox with (publish = 'insert')`

func TestPreflightNamesEveryObstacleWithItsRepair(t *testing.T) {
	for name, c := range map[string]struct {
		since  int // server version
		spoil  string
		tables []string
		fatal  []string // each is part of one finding
		warn   []string
	}{
		"all is well":               {tables: []string{"public.outbox"}},
		"all tables of publication": {},
		"no such table": {
			tables: []string{"public.outbox", "shop.outbox", "public.Outbox"},
			fatal:  []string{"table shop.outbox does not exist", "table public.Outbox does not exist"},
		},
		"unlogged": {
			spoil: `create unlogged table fast (id int)`, tables: []string{"public.fast"},
			fatal: []string{`alter table "public"."fast" set logged`},
		},
		"not published": {
			spoil: `create table other (id int)`, tables: []string{"public.other"},
			fatal: []string{`alter publication "outrider" add table "public"."other"`},
		},
		"swapped by a rename": {
			spoil: `alter table outbox rename to old; create table outbox (id int)`, tables: []string{"public.outbox"},
			fatal: []string{"a publication follows the table, not the name"},
		},
		"inserts not published": {
			spoil: `alter publication outrider set (publish = 'update')`, tables: []string{"public.outbox"},
			fatal: []string{`alter publication "outrider" set (publish = 'insert')`},
		},
		"more than inserts": {
			spoil: `alter publication outrider set (publish = 'insert, delete')`, tables: []string{"public.outbox"},
			warn: []string{"updates, deletes and truncates"},
		},
		"all tables": {
			spoil: `drop publication outrider; create publication outrider for all tables with (publish = 'insert')`,
			fatal: []string{"holds schema outrider"},
		},
		"the checkpoint published": {
			spoil: `create schema outrider; create table outrider.checkpoint (name text); alter publication outrider add table outrider.checkpoint`,
			fatal: []string{"holds schema outrider"},
		},
		"no tables": {
			spoil: `alter publication outrider drop table outbox`, fatal: []string{"has no tables"},
		},
		"partitioned, leaves published": {
			spoil: `create table parts (id int) partition by range (id); create table parts1 partition of parts for values from (0) to (9);
				alter publication outrider add table parts`,
			tables: []string{"public.parts"}, fatal: []string{"set (publish_via_partition_root = true)"},
		},
		"partitioned, root published": {
			spoil: `create table parts (id int) partition by range (id); create table parts1 partition of parts for values from (0) to (9);
				alter publication outrider add table parts; alter publication outrider set (publish_via_partition_root = true)`,
			tables: []string{"public.parts", "public.outbox"},
		},
		"partitioned, not published": {
			spoil: `create table parts (id int) partition by range (id)`, tables: []string{"public.parts"},
			fatal: []string{`add table "public"."parts"`},
		},
		"a partition named, root published": {
			spoil: `create table parts (id int) partition by range (id); create table parts1 partition of parts for values from (0) to (9);
				alter publication outrider add table parts; alter publication outrider set (publish_via_partition_root = true)`,
			tables: []string{"public.parts1"}, fatal: []string{"name public.parts in outbox.tables"},
		},
		"rows and columns hidden": {
			since: 150000,
			spoil: `alter publication outrider set table outbox (id) where (id > 7)`, tables: []string{"public.outbox"},
			warn: []string{"filters the rows of public.outbox (where (id > 7))", "hides columns of public.outbox (payload)"},
		},
		"several at once": {
			spoil: `alter publication outrider set (publish = 'update')`, tables: []string{"public.nowhere"},
			fatal: []string{"public.nowhere does not exist", "does not publish inserts"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pg := database(t, outboxSQL)
			pg.Tables = c.tables
			conn := control(t, pg)
			if serverVersion(t, conn) < c.since {
				t.Skipf("the server knows this only from version %d on", c.since)
			}
			if _, err := conn.PgConn().Exec(t.Context(), c.spoil).ReadAll(); err != nil {
				t.Fatal(err)
			}
			f, err := preflight(t.Context(), conn, pg)
			var fatal findings
			if err != nil && !errors.As(err, &fatal) {
				t.Fatal(err)
			}
			sameFindings(t, "fatal", fatal, c.fatal)
			sameFindings(t, "warnings", f.warnings, c.warn)
		})
	}
}

// serverVersion is server_version_num.
func serverVersion(t *testing.T, conn *pgx.Conn) (version int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	return version
}

func sameFindings(t *testing.T, kind string, got []finding, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %q, want %d", kind, got, len(want))
		return
	}
	for i := range want {
		if !strings.Contains(got[i].String(), want[i]) {
			t.Errorf("%s: %q, want something about %q", kind, got[i], want[i])
		}
	}
}

func TestPreflightReadsTheSlotAndTheServer(t *testing.T) {
	pg := database(t, outboxSQL)
	conn := control(t, pg)
	f, err := preflight(t.Context(), conn, pg)
	if err != nil {
		t.Fatal(err)
	}
	if f.slot != nil {
		t.Errorf("a slot before there is one: %+v", f.slot)
	}
	if f.version < minVersion || f.walEnd == 0 || f.walSenderTimeout != time.Minute || f.maxSlotWAL >= 0 || f.server.systemID == "" || f.server.timeline != 1 {
		t.Errorf("%+v", f)
	}
	run(t, conn, "select pg_create_logical_replication_slot($1, 'pgoutput')", pg.Slot)
	if f, err = preflight(t.Context(), conn, pg); err != nil {
		t.Fatal(err)
	}
	s := f.slot
	if s == nil || s.Confirmed == 0 || s.Restart == 0 || s.Restart > s.Confirmed || s.WALStatus != "reserved" || s.Active || s.lost() != "" {
		t.Errorf("%+v", s)
	}
}

func TestPreflightRefusesASlotOfAnotherKind(t *testing.T) {
	for name, c := range map[string]struct{ create, want string }{
		"physical":  {`select pg_create_physical_replication_slot($1)`, "is physical"},
		"two-phase": {`select pg_create_logical_replication_slot($1, 'pgoutput', false, true)`, "two_phase"},
	} {
		t.Run(name, func(t *testing.T) {
			pg := database(t, outboxSQL)
			conn := control(t, pg)
			run(t, conn, c.create, pg.Slot)
			_, err := preflight(t.Context(), conn, pg)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	pg := database(t, outboxSQL)
	run(t, control(t, pg), "select pg_create_logical_replication_slot($1, 'pgoutput')", pg.Slot)
	other := database(t, outboxSQL)
	other.Slot = pg.Slot
	if _, err := preflight(t.Context(), control(t, other), other); err == nil || !strings.Contains(err.Error(), "the slot belongs to database") {
		t.Errorf("another database: %v", err)
	}
	sameFindings(t, "fatal", (&slotFacts{Plugin: "wal2json", Database: "shop"}).findings("shop"), []string{"uses plugin wal2json"})
}

func TestRoleWithoutReplicationIsToldTheCommand(t *testing.T) {
	row := serverRow{walLevel: "logical", role: "relay", backend: 7}
	for name, c := range map[string]struct {
		change func(*serverRow)
		want   []string
	}{
		"no right":        {func(*serverRow) {}, []string{`alter role "relay" replication`}},
		"no right, RDS":   {func(r *serverRow) { r.rds = true }, []string{`grant rds_replication to "relay"`}},
		"member, RDS":     {func(r *serverRow) { r.rds, r.rdsMay = true, true }, nil},
		"replication":     {func(r *serverRow) { r.replication = true }, nil},
		"wal_level":       {func(r *serverRow) { r.replication, r.walLevel = true, "replica" }, []string{"alter system set wal_level = logical"}},
		"pooler":          {func(r *serverRow) { r.replication, r.backend = true, 8 }, []string{"PgBouncer"}},
		"standby":         {func(r *serverRow) { r.replication, r.recovery = true, true }, []string{"target_session_attrs=read-write"}},
		"any synchronous": {func(r *serverRow) { r.replication, r.syncNames = true, "ANY 1 (*)" }, []string{"synchronous_standby_names"}},
		"our name": {func(r *serverRow) {
			r.replication, r.syncNames, r.application = true, `"Outrider/orders"`, "outrider/orders"
		}, []string{"synchronous_standby_names"}},
		"somebody's name":   {func(r *serverRow) { r.replication, r.syncNames, r.application = true, "standby1", "outrider/orders" }, nil},
		"several at a time": {func(r *serverRow) { r.walLevel, r.recovery = "minimal", true }, []string{"standby", "wal_level", "alter role"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := row
			c.change(&r)
			sameFindings(t, "fatal", r.findings(150000, "15.1", 7), c.want)
		})
	}
	sameFindings(t, "fatal", (&serverRow{walLevel: "logical", replication: true}).findings(130010, "13.10", 0), []string{"PostgreSQL 13.10"})
}

// A row of each version, as pg_replication_slots has it.
func TestSlotIsReadWhateverColumnsItHas(t *testing.T) {
	for name, c := range map[string]struct{ row, lost string }{
		"14":              {`{"plugin":"pgoutput","restart_lsn":"0/1","confirmed_flush_lsn":"0/2","wal_status":"reserved","safe_wal_size":null}`, ""},
		"lost":            {`{"plugin":"pgoutput","restart_lsn":null,"confirmed_flush_lsn":"0/2","wal_status":"lost"}`, "max_slot_wal_keep_size"},
		"16, conflict":    {`{"plugin":"pgoutput","confirmed_flush_lsn":"0/2","wal_status":"reserved","conflicting":true}`, "conflict"},
		"17, invalidated": {`{"plugin":"pgoutput","confirmed_flush_lsn":"0/2","wal_status":"lost","invalidation_reason":"wal_removed","conflicting":false,"failover":true,"synced":false}`, "wal_removed"},
		"18, idle":        {`{"plugin":"pgoutput","confirmed_flush_lsn":"0/2","wal_status":"reserved","invalidation_reason":"idle_timeout"}`, "idle_timeout"},
	} {
		s, err := parseSlot([]byte(c.row))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s.Confirmed != 2 || (s.lost() == "") != (c.lost == "") || !strings.Contains(s.lost(), c.lost) {
			t.Errorf("%s: %+v is lost: %q, want %q", name, s, s.lost(), c.lost)
		}
	}
}
