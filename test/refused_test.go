package test

import (
	"strings"
	"testing"

	"github.com/outrider-relay/outrider/test/harness"
)

func TestSlotOrPublicationOfAnotherKindEndsTheStartWith10(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name     string
		database string // runs in the relay's database
		slot     string // creates the slot; $1 is its name
		elsewhere,
		withoutCreate bool // in another database; with postgres.create off
		says []string // what is wrong, and what to do
	}{
		{
			name: "OtherPlugin", slot: `select pg_create_logical_replication_slot($1, 'test_decoding')`,
			says: []string{"the slot uses plugin test_decoding", "set postgres.slot to a name that is free"},
		},
		{
			name: "PhysicalSlot", slot: `select pg_create_physical_replication_slot($1)`,
			says: []string{"the slot is physical", "set postgres.slot to a name that is free"},
		},
		{
			name: "SlotOfAnotherDatabase", slot: `select pg_create_logical_replication_slot($1, 'pgoutput')`, elsewhere: true,
			says: []string{"the slot belongs to database ", "postgres.url to that database"},
		},
		{
			name: "TwoPhaseSlot", slot: `select pg_create_logical_replication_slot($1, 'pgoutput', false, true)`,
			says: []string{"the slot has two_phase", "create the slot without two_phase"},
		},
		{
			name: "NoSlot", withoutCreate: true,
			says: []string{"does not exist", "postgres.create: true", "pg_create_logical_replication_slot"},
		},
		{
			name: "NoPublicationBesideASlot", slot: `select pg_create_logical_replication_slot($1, 'pgoutput')`,
			says: []string{"publication outrider does not exist", `create publication "outrider" for table "public"."outbox" with (publish = 'insert'`},
		},
		{
			name: "NoPublicationToStartWith", withoutCreate: true, slot: `select pg_create_logical_replication_slot($1, 'pgoutput')`,
			says: []string{"publication outrider does not exist", `create publication "outrider" for table "public"."outbox" with (publish = 'insert'`},
		},
		{
			name: "TableNotPublished", database: `create table other (id int); create publication outrider for table other with (publish = 'insert')`,
			says: []string{"table public.outbox is not in publication outrider", `alter publication "outrider" add table "public"."outbox"`},
		},
		{
			name: "InsertsNotPublished", database: `create publication outrider for table public.outbox with (publish = 'update, delete')`,
			says: []string{"does not publish inserts", `alter publication "outrider" set (publish = 'insert')`},
		},
		{
			name: "AllTablesPublished", database: `create publication outrider for all tables with (publish = 'insert')`,
			says: []string{"holds schema outrider", `drop publication "outrider"; create publication "outrider" for table`},
		},
		{
			name: "TablePartitioned",
			database: `drop table public.outbox; create table public.outbox (id int, payload jsonb) partition by range (id);
				create table part1 partition of public.outbox for values from (0) to (9);
				create publication outrider for table public.outbox with (publish = 'insert')`,
			says: []string{"under the names of its partitions", `alter publication "outrider" set (publish_via_partition_root = true)`},
		},
	}
	pg := sharedPostgres(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, pg)
			if c.database != "" {
				if _, err := s.conn.PgConn().Exec(t.Context(), c.database).ReadAll(); err != nil {
					t.Fatal(err)
				}
			}
			if c.slot != "" {
				conn := s.conn
				if c.elsewhere {
					conn = pg.Connect(t)
				}
				harness.Exec(t, conn, c.slot, s.slot())
			}
			config := exactly
			if c.withoutCreate {
				config += "postgres: { create: false }\n"
			}
			relay := s.start(t, []string{"127.0.0.1:1"}, config)
			if code := relay.ExitCode(t, patience); code != 10 {
				t.Errorf("exit code %d, not 10", code)
			}
			last := lastLine(t, relay)
			for _, says := range c.says {
				if !strings.Contains(last, says) {
					t.Errorf("%s\ndoes not say %q", last, says)
				}
			}
		})
	}
}

// What a relay had sent above its slot before it lost its checkpoint is known to nobody any more.
func TestSlotWithoutACheckpointIsReadFromWhereItStands(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	const lost = "no checkpoint was stored under this name, though somebody has read from its slot: starting where the slot stands; what a relay had sent from there on is sent again"
	t.Run("PreparedByHand", func(t *testing.T) {
		harness.Exec(t, s.conn, `create publication outrider for table public.outbox with (publish = 'insert')`)
		harness.Exec(t, s.conn, `select pg_create_logical_replication_slot($1, 'pgoutput')`, s.slot())
		harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
		relay := s.launch(t)
		s.awaitDelivered(t, harness.NoRepeats)
		relay.AwaitLog(t, "first start, beside a slot that nobody has read from", patience)
		if strings.Contains(relay.Log(), "no checkpoint was stored") {
			t.Error("a slot that was made for this start passes for a lost checkpoint")
		}
		if code := relay.Stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("CheckpointLost", func(t *testing.T) {
		harness.Exec(t, s.conn, `delete from outrider.checkpoint`)
		harness.WriteRows(t, s.conn, s.kind, 101, 200, 10)
		relay := s.launch(t)
		relay.AwaitLog(t, lost, patience)
		s.awaitDelivered(t, harness.MayRepeat)
	})
}
