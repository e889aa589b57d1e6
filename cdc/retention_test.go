package cdc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/migrations"
)

// agedTables finds them as a relay of public.outbox does.
func agedTables(t *testing.T, conn *pgx.Conn, columns map[string]string, tables ...string) []agedTable {
	t.Helper()
	found, err := readAgedTables(t.Context(), conn, &Config{Columns: columns, Postgres: Postgres{Tables: tables}})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func mustMark(t *testing.T, conn *pgx.Conn) mark {
	t.Helper()
	m, err := takeMark(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustPrune(t *testing.T, conn *pgx.Conn, tables []agedTable, m mark, age time.Duration) Pruned {
	t.Helper()
	p, err := prune(t.Context(), conn, tables, m, age)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// left are the ids that a table still has.
func left(t *testing.T, conn *pgx.Conn, table string) string {
	t.Helper()
	var ids string
	if err := conn.QueryRow(t.Context(), "select coalesce(string_agg(id::text, ' ' order by id), '') from "+table).Scan(&ids); err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestOnlyWhatWasCommittedBeforeTheMarkIsPruned(t *testing.T) {
	pg := database(t, `create table outbox (id int, created_at timestamptz default now() - interval '1 day')`)
	conn, writer := control(t, pg), control(t, pg)
	run(t, conn, `insert into outbox values (1), (2)`)
	run(t, conn, `vacuum freeze outbox`)
	run(t, conn, `insert into outbox values (3)`)
	run(t, writer, `begin`)
	run(t, writer, `insert into outbox values (4)`)
	run(t, writer, `savepoint s`)
	run(t, writer, `insert into outbox values (5)`)
	run(t, conn, `insert into outbox values (6)`) // by a younger transaction, that a mark cannot tell from the one above
	m := mustMark(t, conn)
	run(t, writer, `commit`) // above the mark: what the relay has stored says nothing of these rows
	run(t, conn, `insert into outbox values (7)`)
	tables := agedTables(t, conn, nil, "public.outbox")
	if p := mustPrune(t, conn, tables, m, time.Hour); p.Rows != 3 {
		t.Errorf("%d rows went", p.Rows)
	}
	if ids := left(t, conn, "outbox"); ids != "4 5 6 7" {
		t.Errorf("%s are left", ids)
	}
	if mustPrune(t, conn, tables, mustMark(t, conn), time.Hour); left(t, conn, "outbox") != "" {
		t.Errorf("%s are left below a new mark", left(t, conn, "outbox"))
	}
}

func TestAgeIsToldByTheColumnThatTheTableHas(t *testing.T) {
	for _, c := range []struct {
		column, typ string
		columns     map[string]string
	}{
		{"created_at", "timestamptz", nil},
		{"created_at", "timestamp", nil},  // the tutorial's
		{`"timestamp"`, "timestamp", nil}, // Quarkus'
		{"happened", "timestamptz", map[string]string{"timestamp": "happened"}},
		{"happened", "timestamptz", map[string]string{"timestamp": "id", "public.outbox.timestamp": "happened"}},
	} {
		pg := database(t, `create table outbox (id int, `+c.column+` `+c.typ+`)`)
		conn := control(t, pg) // its time zone is UTC
		run(t, conn, `insert into outbox select n, now() - make_interval(hours => n) from generate_series(1, 2500) n`)
		p := mustPrune(t, conn, agedTables(t, conn, c.columns, "public.outbox"), mustMark(t, conn), 2*time.Hour+time.Minute)
		if ids := left(t, conn, "outbox"); ids != "1 2" || p.Rows != 2498 {
			t.Errorf("%s %s: %d rows went, %s are left", c.column, c.typ, p.Rows, ids)
		}
	}
	pg := database(t, `create table outbox (id int)`)
	var found findings
	if _, err := readAgedTables(t.Context(), control(t, pg), &Config{Postgres: Postgres{Tables: []string{"public.outbox"}}}); !errors.As(err, &found) || !strings.Contains(err.Error(), "outbox.columns.timestamp") {
		t.Errorf("a table without: %v", err)
	}
}

const partitionedTable = `
create table outbox (id int, created_at timestamptz) partition by range (created_at);
create table outbox_1 partition of outbox for values from ('2020-01-01') to ('2020-02-01');
create table outbox_2 partition of outbox for values from ('2020-02-01') to ('2020-03-01');
create table outbox_9 partition of outbox for values from ('2020-03-01') to ('2999-01-01');
insert into outbox values (1, '2020-01-05'), (2, '2020-02-05'), (3, now() - interval '1 day'), (4, now())`

func partitions(t *testing.T, conn *pgx.Conn) (names []string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), `select array_agg(relname::text order by 1) from pg_class where relname like 'outbox\__' and relkind = 'r'`).Scan(&names); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestOldPartitionsAreDroppedAsAWhole(t *testing.T) {
	conn := control(t, database(t, partitionedTable))
	p := mustPrune(t, conn, agedTables(t, conn, nil, "public.outbox"), mustMark(t, conn), time.Hour)
	if got := partitions(t, conn); !slices.Equal(got, []string{"outbox_9"}) || !slices.Equal(p.Partitions, []string{"public.outbox_1", "public.outbox_2"}) || p.Rows != 1 {
		t.Errorf("%v went, %d rows one by one, %v are left", p.Partitions, p.Rows, got)
	}
	if ids := left(t, conn, "outbox"); ids != "4" {
		t.Errorf("%s are left", ids)
	}
}

func TestPartitionWithAnUndeliveredRowStays(t *testing.T) {
	conn := control(t, database(t, partitionedTable))
	m := mustMark(t, conn)
	run(t, conn, `insert into outbox values (5, '2020-02-07')`)
	p := mustPrune(t, conn, agedTables(t, conn, nil, "public.outbox"), m, time.Hour)
	if got := partitions(t, conn); !slices.Equal(got, []string{"outbox_2", "outbox_9"}) {
		t.Errorf("%v went, %v are left", p.Partitions, got)
	}
	if ids := left(t, conn, "outbox"); ids != "4 5" {
		t.Errorf("%s are left", ids)
	}
}

// A table with a default partition lets go of none without a lock that stops everybody.
func TestDefaultPartitionLeavesRowsToGoOneByOne(t *testing.T) {
	conn := control(t, database(t, partitionedTable+`; create table outbox_d partition of outbox default`))
	p := mustPrune(t, conn, agedTables(t, conn, nil, "public.outbox"), mustMark(t, conn), time.Hour)
	if ids := left(t, conn, "outbox"); ids != "4" || len(p.Partitions) > 0 || p.Rows != 3 {
		t.Errorf("%v and %d rows went, %s are left", p.Partitions, p.Rows, ids)
	}
}

// Somebody who reads a partition keeps it from being detached, and us from waiting: what was begun is ended the next time.
func TestDetachThatIsCutOffIsEndedLater(t *testing.T) {
	pg := database(t, partitionedTable)
	conn, reader := control(t, pg), control(t, pg)
	run(t, reader, `begin isolation level repeatable read`)
	run(t, reader, `select count(*) from outbox`)
	tables, m := agedTables(t, conn, nil, "public.outbox"), mustMark(t, conn)
	if _, err := prune(t.Context(), conn, tables, m, time.Hour); err == nil || !strings.Contains(err.Error(), "lock timeout") {
		t.Fatalf("beside a reader: %v", err)
	}
	run(t, reader, `commit`)
	mustPrune(t, conn, tables, m, time.Hour)
	if got := partitions(t, conn); !slices.Equal(got, []string{"outbox_9"}) {
		t.Errorf("%v are left", got)
	}
}

func TestMarkOfAnotherServerIsRefused(t *testing.T) {
	conn := control(t, database(t, `create table outbox (id int, created_at timestamptz default now())`))
	m := mustMark(t, conn)
	m.server.started = "0"
	if _, err := prune(t.Context(), conn, agedTables(t, conn, nil, "public.outbox"), m, 0); err == nil || !strings.Contains(err.Error(), "different servers") {
		t.Errorf("%v", err)
	}
}

// cutter closes its connection when a statement has ended that contains a text, as the death of its process would.
type cutter struct{ after string }

func (c cutter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, c, d.SQL)
}

func (c cutter) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryEndData) {
	if sql, _ := ctx.Value(c).(string); strings.Contains(sql, c.after) {
		_ = conn.PgConn().Conn().Close()
	}
}

// Detaching a partition and dropping it are several transactions.
func TestPartitionThatADeadRelayHasLeftIsFinished(t *testing.T) {
	for name, after := range map[string]string{"before it was detached": "comment on table", "after it was detached": " detach partition "} {
		t.Run(name, func(t *testing.T) {
			conn := control(t, database(t, partitionedTable+`; comment on table outbox_1 is 'The events of 2020-01, UTC.'`))
			cfg := conn.Config().Copy()
			cfg.Tracer = cutter{after}
			dies, err := pgx.ConnectConfig(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			tables, m := agedTables(t, conn, nil, "public.outbox"), mustMark(t, conn)
			if _, err := prune(t.Context(), dies, tables, m, time.Hour); err == nil {
				t.Fatal("it lives on")
			}
			p := mustPrune(t, conn, tables, m, time.Hour)
			if got := partitions(t, conn); !slices.Equal(got, []string{"outbox_9"}) || len(p.Partitions) != 2 {
				t.Errorf("%v went, %v are left", p.Partitions, got)
			}
		})
	}
	t.Run("it is wanted again", func(t *testing.T) {
		conn := control(t, database(t, partitionedTable+`; comment on table outbox_1 is 'Outrider: pruned. The events of 2020-01, UTC.'`))
		tables, m := agedTables(t, conn, nil, "public.outbox"), mustMark(t, conn)
		if mustPrune(t, conn, tables, m, 100*365*24*time.Hour); left(t, conn, "outbox") != "1 2 3 4" {
			t.Errorf("%s are left", left(t, conn, "outbox"))
		}
		// Whoever takes it out now wants to keep it.
		run(t, conn, `alter table outbox detach partition outbox_1`)
		if mustPrune(t, conn, tables, m, time.Hour); left(t, conn, "outbox_1") != "1" {
			t.Errorf("%s are left of what was detached by hand", left(t, conn, "outbox_1"))
		}
	})
}

// What was there before the relay began, or was written while it was not published, may be nowhere else.
func TestWhatWasNeverReadIsKeptUntilItIsLetGo(t *testing.T) {
	pg := database(t, `create table outbox (id int, created_at timestamptz) partition by range (created_at);
		create table outbox_1 partition of outbox for values from ('2020-01-01') to ('2020-02-01');
		create table outbox_2 partition of outbox for values from ('2020-02-01') to ('2020-03-01');
		create table outbox_9 partition of outbox for values from ('2020-03-01') to ('2999-01-01');
		create publication outrider for table outbox with (publish = 'insert', publish_via_partition_root = true);
		insert into outbox values (1, '2020-01-05'), (2, now() - interval '1 hour'), (3, now() + interval '1 hour')`)
	conn := control(t, pg)
	pg.Tables = []string{"public.outbox"}
	cfg := &Config{Name: "orders", Postgres: *pg}
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	run(t, conn, `insert into outrider.checkpoint (name, format, generation, instance, heartbeat_at, system_id, timeline, slot, lsn, delivery, updated_at)
		values ('orders', 1, 1, 'i', now(), '7', 1, 's', '0/1', 'exactly-once', now())`)
	s := &session{cfg: cfg, control: conn, generation: 1}
	keep := func() {
		t.Helper()
		if err := s.keepRows(t.Context(), "a test"); err != nil {
			t.Fatal(err)
		}
	}
	// pruned gives what is left when all that may go has gone, at an age below which nothing is.
	pruned := func() string {
		t.Helper()
		m := mustMark(t, conn)
		var err error
		if m.kept, err = keptRows(t.Context(), conn, cfg); err != nil {
			t.Fatal(err)
		}
		mustPrune(t, conn, agedTables(t, conn, nil, "public.outbox"), m, -2*time.Hour)
		return left(t, conn, "outbox")
	}
	if _, err := keptRows(t.Context(), conn, cfg); !errors.Is(err, errUnnoted) {
		t.Fatalf("before anything is noted: %v", err)
	}
	keep()
	run(t, conn, `insert into outbox values (4, '2020-02-05'), (5, now()), (6, now() + interval '1 hour')`)
	if ids := pruned(); ids != "1 2 3 4" { // 4 is delivered, and nothing but its own time speaks for it
		t.Errorf("%s are left", ids)
	}
	if got := partitions(t, conn); len(got) != 3 {
		t.Errorf("%v are left", got)
	}
	for _, change := range []string{
		`alter publication outrider drop table outbox`, `alter publication outrider add table outbox`, `alter publication outrider set (publish = 'insert, update')`,
	} {
		run(t, conn, change)
		unpublished := strings.Contains(change, "drop table")
		if _, err := keptRows(t.Context(), conn, cfg); !errors.Is(err, errUnnoted) && !unpublished {
			t.Errorf("after %s: %v", change, err)
		}
		run(t, conn, `insert into outbox values (7, now())`) // perhaps not published
		keep()
		run(t, conn, `insert into outbox values (8, now())`)
		var found findings
		if unpublished {
			_, err := keptRows(t.Context(), conn, cfg)
			if !errors.As(err, &found) || !strings.Contains(err.Error(), "is not in publication") {
				t.Errorf("while row 8 is not published: %v", err)
			}
		} else if ids := pruned(); !strings.HasSuffix(ids, " 7") {
			t.Errorf("after %s %s are left", change, ids)
		}
		run(t, conn, `delete from outbox where id in (7, 8)`)
	}
	run(t, conn, `create table spare (like outbox); alter publication outrider add table spare`)
	keep()
	run(t, conn, `begin; alter table outbox rename to former; alter table spare rename to outbox; commit`)
	if _, err := keptRows(t.Context(), conn, cfg); !errors.Is(err, errUnnoted) {
		t.Errorf("a published table took the name of the outbox, with rows that were none of its events: %v", err)
	}
	run(t, conn, `begin; alter table outbox rename to spare; alter table former rename to outbox; commit`)
	other := *cfg
	other.Postgres.Tables = []string{"public.other"}
	if _, err := keptRows(t.Context(), conn, &other); !errors.Is(err, errUnnoted) {
		t.Errorf("with other settings: %v", err)
	}
	if err := letGoOfKept(t.Context(), conn, cfg, "me"); err != nil {
		t.Fatal(err)
	}
	if ids := pruned(); ids != "" {
		t.Errorf("%s are left after all was let go", ids)
	}
	run(t, conn, `alter table outrider.checkpoint drop column kept`)
	var found findings
	if _, err := keptRows(t.Context(), conn, cfg); !errors.As(err, &found) || !strings.Contains(err.Error(), "alter table outrider.checkpoint add column") {
		t.Errorf("in a table of an older version: %v", err)
	}
}

// A row has half of its transaction's id. When that has come round, its time still speaks for it.
func TestKeptRowStaysWhenTransactionIdsHaveComeRound(t *testing.T) {
	conn := control(t, database(t, `create table outbox (id int, created_at timestamptz default now()); insert into outbox values (1)`))
	m := mustMark(t, conn)
	m.kept = checkpoint.Kept{XID: m.xmin - 1<<32, At: time.Now().Add(time.Minute)} // four billion transactions ago
	run(t, conn, `insert into outbox values (2)`)
	tables := agedTables(t, conn, nil, "public.outbox")
	m2 := mustMark(t, conn)
	m2.kept = m.kept
	if mustPrune(t, conn, tables, m2, -time.Hour); left(t, conn, "outbox") != "1 2" {
		t.Errorf("%s are left", left(t, conn, "outbox"))
	}
	m2.kept.At = time.Time{}
	if mustPrune(t, conn, tables, m2, -time.Hour); left(t, conn, "outbox") != "" {
		t.Errorf("%s are left", left(t, conn, "outbox"))
	}
}

// The whole of it: a relay that begins, and one that takes a decision.
func TestRetentionLeavesWhatTheRelayPassesOver(t *testing.T) {
	pg := database(t, stageTable+`; insert into outbox (event_type) values ('before the first start')`)
	conn := control(t, pg)
	relays := func() (stop func() error) {
		t.Helper()
		relay := stageRelay(t, pg, func(*Ledger) Sink { return &stageSink{} })
		relay.cfg.Retention = time.Millisecond
		stop = inBackground(t, relay)
		await(t, relay, Relaying)
		return stop
	}
	// awaitLeft writes a row that the relay reads, and waits until it has gone and the others are left.
	awaitLeft := func(want string) {
		t.Helper()
		run(t, conn, `insert into outbox (event_type) values ('read')`)
		for began := time.Now(); ; {
			var left string
			if err := conn.QueryRow(t.Context(), `select string_agg(event_type, ', ' order by created_at) from outbox`).Scan(&left); err != nil {
				t.Fatal(err)
			}
			if left == want {
				return
			}
			if time.Since(began) > 30*time.Second {
				t.Fatalf("%s are left, not %s", left, want)
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	stop := relays()
	awaitLeft("before the first start")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	run(t, conn, `insert into outbox (event_type) values ('in the gap')`)
	run(t, conn, freeSlot, pg.Slot) // the walsender may take a moment
	run(t, conn, `select pg_replication_slot_advance($1, pg_current_wal_insert_lsn())`, pg.Slot)
	run(t, conn, `update outrider.checkpoint set verdict = '{"id": "1", "case": "gap", "options": ["accept-loss"]}', decision = '{"verdict": "1", "action": "accept-loss", "by": "me", "at": "2026-01-02T03:04:05Z"}'`)
	relays()
	awaitLeft("before the first start, in the gap")
}
