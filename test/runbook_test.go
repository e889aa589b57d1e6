package test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/migrations"
	"github.com/outrider-relay/outrider/test/harness"
)

// What docs/operating.md says to do has to end as it says.

// decides types what a runbook says about the verdict that the relay has come to.
func (s *scene) decides(t *testing.T, relay *harness.Relay, verdict, flag string) {
	t.Helper()
	awaitVerdict(t, relay, verdict)
	if said, code := s.resolve(t, flag); code != 0 {
		t.Fatalf("resolve %s: %s", flag, said)
	}
}

// copyTable copies a table's rows as a dump does.
func copyTable(t *testing.T, from, to *pgx.Conn, table string) {
	t.Helper()
	var rows bytes.Buffer
	_, err := from.PgConn().CopyTo(t.Context(), &rows, "copy "+table+" to stdout")
	if err == nil {
		_, err = to.PgConn().CopyFrom(t.Context(), &rows, "copy "+table+" from stdin")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A server with another system identifier, all the tables and no slot is what pg_upgrade makes before PostgreSQL 17.
func TestRunbookOfAnUpgradeLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	if code := relay.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	upgraded := harness.NewPostgres(t, harness.PostgresOptions{}).NewDatabase(t)
	conn := harness.Connect(t, upgraded)
	harness.CreateOutbox(t, conn)
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	harness.Exec(t, conn, `create publication outrider for table outbox with (publish = 'insert')`)
	for _, table := range []string{"public.outbox", "outrider.checkpoint", "outrider.partition"} {
		copyTable(t, s.conn, conn, table)
	}
	s.dropSlot(t)
	s.url, s.conn = upgraded, conn

	relay = s.launch(t)
	s.decides(t, relay, "other cluster", "--accept-new-cluster")
	relay.AwaitState(t, cdc.Relaying, patience)
	harness.WriteRows(t, s.conn, s.kind, 101, 200, 10)
	s.awaitDelivered(t, harness.NoRepeats)
}

func TestRunbookOfALostSlotPublishesWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	if code := relay.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	s.dropSlot(t)
	harness.WriteRows(t, s.conn, s.kind, 101, 110, 10) // in no stream any more
	relay = s.launch(t)
	s.decides(t, relay, "gap", "--accept-loss")
	relay.AwaitState(t, cdc.Relaying, patience)

	blocks := readDocument(t, "docs/operating.md").blocks
	again := slices.IndexFunc(blocks, func(b codeBlock) bool { return strings.HasPrefix(b.text, "with again") })
	if again < 0 {
		t.Fatal("docs/operating.md does not say how to publish again")
	}
	var missing string
	queryRow(t, s.conn, `select array_agg(id)::text from outbox where (payload ->> 'n')::int > 100`, nil, &missing)
	harness.Exec(t, s.conn, strings.Replace(blocks[again].text, "{6ba7b810-9dad-41d1-80b4-00c04fd430c8}", missing, 1))
	s.awaitDelivered(t, harness.NoRepeats)
}
