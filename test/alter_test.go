package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// alteration is a change of the outbox table or of its publication that loses nothing where it is done in one transaction.
type alteration struct{ name, sql string }

var alterations = []alteration{
	{"ColumnAdded", `alter table public.outbox add column tenant text not null default 'none'`},
	{"ColumnMoved", `alter table public.outbox drop column headers; alter table public.outbox add column headers jsonb not null default '{}'`},
	{"ColumnDropped", `alter table public.outbox drop column created_at`},
	{"ColumnRenamed", `alter table public.outbox rename column tenant to customer`},
	{"PayloadRetyped", `alter table public.outbox alter column payload type json`},
	{"KeysRetyped", `alter table public.outbox alter column id type text, alter column aggregate_id type varchar(100)`},
	{"PublicationWidened", `alter publication outrider set (publish = 'insert, update, delete, truncate')`},
	{"TableTruncated", `truncate public.outbox`},
	{"TableSwapped", `alter table public.outbox rename to outbox_of_yesterday; create table public.outbox (like outbox_of_yesterday including all);
		alter publication outrider set table public.outbox`},
	{"TablePartitioned", `drop table public.outbox; create table public.outbox (like outbox_of_yesterday including defaults) partition by hash (aggregate_id);
		create table part0 partition of public.outbox for values with (modulus 2, remainder 0);
		create table part1 partition of public.outbox for values with (modulus 2, remainder 1);
		alter publication outrider set table public.outbox`},
	{"PartitionDetached", `alter table public.outbox detach partition part0; create table part2 partition of public.outbox for values with (modulus 2, remainder 0)`},
	{"PublicationReplaced", `drop publication outrider; create publication outrider for table public.outbox with (publish = 'insert', publish_via_partition_root = true)`},
}

// alter makes the i-th alteration and commits rows before and after it.
func (a *alteration) alter(t *testing.T, s *scene, i int) {
	t.Helper()
	first := 1000*i + 1
	harness.WriteRows(t, s.conn, s.kind, first, first+49, 10)
	execute(t, s, `begin; `+a.sql+`; commit`)
	harness.WriteRows(t, s.conn, s.kind, first+50, first+99, 10)
}

// checkNumbers wants each number of WriteRows once, and those of each key in order.
func checkNumbers(t *testing.T, s *scene, alterations int) {
	t.Helper()
	awaitIDs(t, s.brokers, 100*alterations, false, s.destination)
	last := make(map[string]int)
	for _, r := range harness.ReadAll(t, s.brokers, s.destination) {
		var n int
		if _, err := fmt.Sscanf(strings.ReplaceAll(string(r.Value), " ", ""), `{"n":%d,`, &n); err != nil {
			t.Fatalf("value %q: %v", r.Value, err)
		}
		if key := string(r.Key); n <= last[key] || key != fmt.Sprintf("k%d", n%10) {
			t.Fatalf("row %d of key %s comes after row %d", n, key, last[key])
		} else {
			last[key] = n
		}
	}
}

func TestTableChangesAsTheRelayRunsAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t)
	for i, a := range alterations {
		a.alter(t, s, i)
		awaitIDs(t, s.brokers, 100*(i+1), false, s.destination)
	}
	checkNumbers(t, s, len(alterations))
	if st := relay.AwaitState(t, cdc.Relaying, patience); len(st.Sessions) > 0 {
		t.Errorf("sessions ended: %v", st.Sessions)
	}
}

func TestTableChangesAmongUnsentRowsLoseNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	if code := s.relaying(t).Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for i, a := range alterations {
		a.alter(t, s, i)
	}
	relay := s.relaying(t)
	checkNumbers(t, s, len(alterations))
	relay.Kill()
	s.relaying(t)
	checkNumbers(t, s, len(alterations))
}

// What comes before the change is delivered, so that the setting which suits what comes after it is all that is needed.
func TestRowsWithoutAColumnThatIsNeededAreWaitedFor(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	s.relaying(t).Stop(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	harness.Exec(t, s.conn, `alter table public.outbox rename column payload to body`)
	const insert = `insert into public.outbox (aggregate_type, aggregate_id, event_type, body) select $1, 'k' || i, 'Written', '{}' from generate_series(1, 100) i`
	before := s.commit(t, func() { harness.Exec(t, s.conn, insert, s.kind) })

	relay := s.launch(t)
	awaitDegraded(t, relay, "table public.outbox has no payload column (it has id, aggregate_type, aggregate_id, event_type, body,", patience)
	awaitIDs(t, s.brokers, 100, false, s.destination)
	if s.confirmedBeyond(t, before) {
		t.Error("the slot has let go of rows that were not relayed")
	}
	relay.Kill()
	s.config += "outbox: { columns: { payload: body } }\n"
	relay = s.relaying(t)
	awaitIDs(t, s.brokers, 200, false, s.destination)
	relay.Stop(t)
}

// What is committed while there is no publication is in no stream, and no later one brings it back.
func TestPublicationThatWasGoneForAWhileIsAGap(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	harness.Exec(t, s.conn, `drop publication outrider`)
	harness.WriteRows(t, s.conn, s.kind, 101, 200, 10)
	awaitDegraded(t, relay, `publication outrider does not exist: the stream is what it publishes. Repair: create publication "outrider"`, patience)
	harness.Exec(t, s.conn, `create publication outrider for table public.outbox with (publish = 'insert')`)
	awaitVerdict(t, relay, "gap")
	harness.WriteRows(t, s.conn, s.kind, 201, 300, 10)

	shown, _ := s.resolve(t)
	_, rest, found := strings.Cut(shown, "--restart-at ")
	if !found || !strings.Contains(shown, "publication outrider did not exist for a while") {
		t.Fatalf("resolve shows\n%s", shown)
	}
	at, _, _ := strings.Cut(rest, "\n")
	if said, code := s.resolve(t, "--restart-at", at); code != 0 {
		t.Fatalf("resolve: %s", said)
	}
	relay.AwaitState(t, cdc.Relaying, patience)
	harness.Exec(t, s.conn, `delete from public.outbox where (payload ->> 'n')::int between 101 and 200`)
	s.awaitDelivered(t, harness.NoRepeats)
}

// departures are changes by which rows are published no more. What is written meanwhile is in no stream.
var departures = []struct{ name, leave, says, back string }{
	{
		"TableDropped", `alter publication outrider drop table public.outbox`,
		"table public.outbox is not in publication outrider", `alter publication outrider add table public.outbox`,
	},
	{
		"InsertsNotPublished", `alter publication outrider set (publish = 'update')`,
		"publication outrider does not publish inserts", `alter publication outrider set (publish = 'insert')`,
	},
	{
		"TableSwapped", `alter table public.outbox rename to outbox_of_yesterday; create table public.outbox (like outbox_of_yesterday including all)`,
		"a table that took the name of another one by a rename is not published either", `alter publication outrider set table public.outbox`,
	},
}

func TestOutboxThatLeavesThePublicationIsSaid(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 50, 10)
	for i, d := range departures {
		awaitIDs(t, s.brokers, 50*(i+1), false, s.destination)
		execute(t, s, d.leave)
		harness.WriteRows(t, s.conn, s.kind, 1, 10, 10) // lost
		harness.Exec(t, s.conn, terminateAll, s.name)   // each session looks; a running one once a minute
		awaitDegraded(t, relay, d.says, patience)
		execute(t, s, d.back)
		relay.AwaitState(t, cdc.Relaying, patience)
		harness.WriteRows(t, s.conn, s.kind, 50*i+51, 50*i+100, 10)
	}
	awaitIDs(t, s.brokers, 50*(len(departures)+1), false, s.destination)
}

func TestOutboxThatLeavesThePublicationIsMissedWithinAMinute(t *testing.T) {
	t.Parallel()
	long(t)
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t)
	execute(t, s, departures[0].leave)
	awaitDegraded(t, relay, departures[0].says, 90*time.Second)
	execute(t, s, departures[0].back)
	relay.AwaitState(t, cdc.Relaying, 90*time.Second)
	harness.WriteRows(t, s.conn, s.kind, 1, 50, 10)
	s.awaitDelivered(t, harness.NoRepeats)
}

// execute runs several statements.
func execute(t *testing.T, s *scene, sql string) {
	t.Helper()
	if _, err := s.conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
