package checkpoint_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/migrations"
	"github.com/outrider-relay/outrider/test/harness"
)

// database has the checkpoint tables, and a slot that is read.
type database struct {
	url  string
	slot string
	// holder is the backend that has the slot, as a walsender would. A temporary slot stays active in the one that made it.
	holder *pgx.Conn
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	db := &database{url: newURL(t)}
	must(t, migrations.EnsureCheckpoint(t.Context(), db.connect(t)))
	db.holder = db.connect(t)
	// Slots belong to the server, hence the database in its name.
	const create = "select slot_name from pg_create_logical_replication_slot('outrider_' || current_database(), 'pgoutput', true)"
	must(t, db.holder.QueryRow(t.Context(), create).Scan(&db.slot))
	return db
}

func (db *database) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	return harness.Connect(t, db.url+"&synchronous_commit=on")
}

func (db *database) claim(instance string) checkpoint.Claim {
	return checkpoint.Claim{
		Name: "orders", Instance: instance, Slot: db.slot, WalsenderPID: db.holder.PgConn().PID(),
		SystemID: "18446744073709551615", Timeline: 4294967295, LSN: 0x1_0000_0010, Delivery: "at-least-once",
	}
}

// take takes the row on a connection of its own.
func (db *database) take(t *testing.T, instance string) (*checkpoint.Store, checkpoint.Row, bool) {
	t.Helper()
	store, row, first, err := checkpoint.Take(t.Context(), db.connect(t), db.claim(instance))
	if err != nil {
		t.Fatal(err)
	}
	return store, row, first
}

func (db *database) read(t *testing.T) checkpoint.Row {
	t.Helper()
	row, found, err := checkpoint.Read(t.Context(), db.connect(t), "orders")
	if err != nil || !found {
		t.Fatalf("read: found %v, error %v", found, err)
	}
	return row
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFirstTakeMakesTheRow(t *testing.T) {
	db := newDatabase(t)
	if _, found, err := checkpoint.Read(t.Context(), db.connect(t), "orders"); found || err != nil {
		t.Fatalf("before the first start: found %v, error %v", found, err)
	}
	store, row, first := db.take(t, "one")
	if !first || store.Generation() != 1 || row.Generation != 1 {
		t.Errorf("first %v, generation %d and %d; want true, 1 and 1", first, store.Generation(), row.Generation)
	}
	if row.Instance != "" || !row.HeartbeatAt.IsZero() {
		t.Errorf("predecessor %q, heartbeat %v, want none", row.Instance, row.HeartbeatAt)
	}
	row = db.read(t)
	row.HeartbeatAt, row.UpdatedAt = time.Time{}, time.Time{}
	want := checkpoint.Row{
		Name: "orders", Format: checkpoint.Format, Generation: 1, Instance: "one", SystemID: "18446744073709551615",
		Timeline: 4294967295, Slot: db.slot, LSN: 0x1_0000_0010, Delivery: "at-least-once", ProducerIDs: []int64{},
	}
	if !reflect.DeepEqual(row, want) {
		t.Errorf("row\n%+v, want\n%+v", row, want)
	}
}

func TestTakeReturnsTheRowAsItWasLeft(t *testing.T) {
	db := newDatabase(t)
	store, _, _ := db.take(t, "one")
	must(t, store.Identify(t.Context(), checkpoint.Identity{
		SystemID: "7", Slot: "other", KafkaClusterID: "K", Delivery: "exactly-once", DecodeHash: "h",
	}))
	must(t, store.AddProducerID(t.Context(), 4000))
	must(t, store.AddProducerID(t.Context(), 4001))
	must(t, store.AddProducerID(t.Context(), 4000))
	harness.Exec(t, db.connect(t), `update outrider.checkpoint set verdict = '{"verdict": "gap"}'`)
	must(t, store.Save(t.Context(), checkpoint.Progress{LSN: 0x2_0000_0000, Timeline: 3, Clean: true}))
	left := db.read(t)

	_, row, first := db.take(t, "two")
	if first {
		t.Error("the second take says that it was the first")
	}
	if row.UpdatedAt.Before(left.UpdatedAt) {
		t.Errorf("updated at %v, before %v", row.UpdatedAt, left.UpdatedAt)
	}
	left.UpdatedAt = row.UpdatedAt
	left.Generation++
	want := checkpoint.Row{
		Name: "orders", Format: checkpoint.Format, Generation: 2, Instance: "one", HeartbeatAt: left.HeartbeatAt,
		SystemID: "7", Timeline: 3, Slot: "other", LSN: 0x2_0000_0000, KafkaClusterID: "K", Delivery: "exactly-once",
		ProducerIDs: []int64{4000, 4001}, DecodeHash: "h", Clean: true,
		Verdict: json.RawMessage(`{"verdict": "gap"}`), UpdatedAt: row.UpdatedAt,
	}
	if !reflect.DeepEqual(row, want) || !reflect.DeepEqual(left, want) {
		t.Errorf("taken\n%+v, left\n%+v, want\n%+v", row, left, want)
	}
	if now := db.read(t); now.Instance != "two" || !now.HeartbeatAt.After(left.HeartbeatAt) {
		t.Errorf("instance %q, heartbeat %v; want two, and later than %v", now.Instance, now.HeartbeatAt, left.HeartbeatAt)
	}
}

func TestOnlyTheOwnerOfTheSlotTakesTheRow(t *testing.T) {
	db := newDatabase(t)
	try := func(what string, change func(*checkpoint.Claim)) {
		t.Helper()
		c := db.claim("intruder")
		change(&c)
		if _, _, _, err := checkpoint.Take(t.Context(), db.connect(t), c); !errors.Is(err, checkpoint.ErrNotOwner) {
			t.Errorf("%s: %v, want ErrNotOwner", what, err)
		}
	}
	notOurs := func(c *checkpoint.Claim) { c.WalsenderPID++ }
	noSlot := func(c *checkpoint.Claim) { c.Slot = "nobodys" }
	try("another walsender, no row", notOurs)
	try("no slot, no row", noSlot)
	if _, found, err := checkpoint.Read(t.Context(), db.connect(t), "orders"); found || err != nil {
		t.Fatalf("a refused claim made a row: found %v, error %v", found, err)
	}
	store, _, _ := db.take(t, "one")
	try("another walsender", notOurs)
	try("no slot", noSlot)
	if row := db.read(t); row.Generation != 1 || row.Instance != "one" {
		t.Errorf("a refused claim changed the row: %+v", row)
	}
	must(t, store.Save(t.Context(), checkpoint.Progress{LSN: 0x2_0000_0000}))

	harness.Exec(t, db.holder, "select pg_drop_replication_slot($1)", db.slot)
	try("the slot is gone", func(*checkpoint.Claim) {})
}

func TestSupersededSessionWritesNothing(t *testing.T) {
	db := newDatabase(t)
	old, _, _ := db.take(t, "old")
	must(t, old.Save(t.Context(), checkpoint.Progress{LSN: 0x2_0000_0000, Timeline: 1}))
	must(t, old.Register(t.Context(), []checkpoint.Partition{{Topic: "a", ID: 0, ScanFrom: 5}}))
	db.take(t, "new")
	before := db.read(t)

	for what, write := range map[string]func(ctx context.Context) error{
		"Save": func(ctx context.Context) error {
			return old.Save(ctx, checkpoint.Progress{LSN: 0x3_0000_0000, Timeline: 2})
		},
		"Heartbeat":     old.Heartbeat,
		"Identify":      func(ctx context.Context) error { return old.Identify(ctx, checkpoint.Identity{SystemID: "9"}) },
		"AddProducerID": func(ctx context.Context) error { return old.AddProducerID(ctx, 1) },
		"Settle": func(ctx context.Context) error {
			_, err := old.Settle(ctx, checkpoint.Standing{}, nil)
			return err
		},
		"Judge": func(ctx context.Context) error {
			_, err := checkpoint.Judge(ctx, db.connect(t), "orders", old.Generation(), checkpoint.Standing{}, checkpoint.Verdict{})
			return err
		},
		"Keep": func(ctx context.Context) error {
			return checkpoint.Keep(ctx, db.connect(t), "orders", old.Generation(), "", "")
		},
		"Register": func(ctx context.Context) error {
			return old.Register(ctx, []checkpoint.Partition{{Topic: "a", ID: 0, ScanFrom: 9}, {Topic: "b", ID: 1}})
		},
	} {
		if err := write(t.Context()); !errors.Is(err, checkpoint.ErrSuperseded) {
			t.Errorf("%s: %v, want ErrSuperseded", what, err)
		}
	}
	if after := db.read(t); !reflect.DeepEqual(before, after) {
		t.Errorf("row\n%+v, want\n%+v", after, before)
	}
	partitions, err := old.Partitions(t.Context())
	must(t, err)
	if want := []checkpoint.Partition{{Topic: "a", ID: 0, ScanFrom: 5}}; !reflect.DeepEqual(partitions, want) {
		t.Errorf("partitions %v, want %v", partitions, want)
	}
}

func TestRegisterAddsAndMoves(t *testing.T) {
	db := newDatabase(t)
	store, _, _ := db.take(t, "one")
	must(t, store.Register(t.Context(), nil))
	must(t, store.Register(t.Context(), []checkpoint.Partition{{"b", 0, 7, false}, {"a", 11, 1 << 40, false}, {"a", 2, 0, false}}))
	must(t, store.Register(t.Context(), []checkpoint.Partition{{"a", 2, 9, true}}))
	got, err := store.Partitions(t.Context())
	must(t, err)
	if want := []checkpoint.Partition{{"a", 2, 9, true}, {"a", 11, 1 << 40, false}, {"b", 0, 7, false}}; !reflect.DeepEqual(got, want) {
		t.Errorf("partitions %v, want %v", got, want)
	}
}

// A newer session takes the row while the older one's write waits for it: the older one must see it when it gets on.
func TestWriteThatWaitsForANewerSessionIsRefused(t *testing.T) {
	for what, write := range map[string]func(ctx context.Context, s *checkpoint.Store) error{
		"Save": func(ctx context.Context, s *checkpoint.Store) error {
			return s.Save(ctx, checkpoint.Progress{LSN: 0x3_0000_0000})
		},
		"Register": func(ctx context.Context, s *checkpoint.Store) error {
			return s.Register(ctx, []checkpoint.Partition{{Topic: "a"}})
		},
	} {
		t.Run(what, func(t *testing.T) {
			db := newDatabase(t)
			conn := db.connect(t)
			store, _, _, err := checkpoint.Take(t.Context(), conn, db.claim("old"))
			must(t, err)

			tx := begin(t, db.connect(t), "update outrider.checkpoint set generation = generation + 1")
			saved := make(chan error, 1)
			go func() { saved <- write(t.Context(), store) }()
			waitUntilBlocked(t, db.connect(t), conn.PgConn().PID(), saved)
			must(t, tx.Commit(t.Context()))
			if err := <-saved; !errors.Is(err, checkpoint.ErrSuperseded) {
				t.Errorf("%v, want ErrSuperseded", err)
			}
			if row := db.read(t); row.LSN != 0x1_0000_0010 {
				t.Errorf("stored %s", row.LSN)
			}
		})
	}
}

func TestSaveWaitsForALockedRow(t *testing.T) {
	db := newDatabase(t)
	conn := db.connect(t)
	store, _, _, err := checkpoint.Take(t.Context(), conn, db.claim("one"))
	must(t, err)

	tx := begin(t, db.connect(t), "select from outrider.checkpoint for update")
	saved := make(chan error, 1)
	go func() { saved <- store.Save(t.Context(), checkpoint.Progress{LSN: 0x2_0000_0000}) }()
	waitUntilBlocked(t, db.connect(t), conn.PgConn().PID(), saved)
	must(t, tx.Rollback(t.Context()))
	must(t, <-saved)
	if row := db.read(t); row.LSN != 0x2_0000_0000 {
		t.Errorf("stored %s, want 2/0", row.LSN)
	}
}

func begin(t *testing.T, conn *pgx.Conn, sql string) pgx.Tx {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), sql)
	must(t, err)
	return tx
}

// waitUntilBlocked returns when the backend waits for another one's lock; the answer on done would be too early.
func waitUntilBlocked(t *testing.T, conn *pgx.Conn, pid uint32, done <-chan error) {
	t.Helper()
	for {
		var blockers int
		must(t, conn.QueryRow(t.Context(), "select cardinality(pg_blocking_pids($1))", int32(pid)).Scan(&blockers))
		if blockers > 0 {
			return
		}
		select {
		case err := <-done:
			t.Fatalf("did not wait: %v", err)
		default:
		}
	}
}

func TestFirstTakesThatRaceGetDifferentGenerations(t *testing.T) {
	db := newDatabase(t)
	const racers = 8
	var (
		wg          sync.WaitGroup
		start       = make(chan struct{})
		generations = make([]int64, racers)
		firsts      = make([]bool, racers)
	)
	for i := range racers {
		conn := db.connect(t)
		wg.Go(func() {
			<-start
			store, _, first, err := checkpoint.Take(t.Context(), conn, db.claim(fmt.Sprint(i)))
			if err != nil {
				t.Error(err)
				return
			}
			generations[i], firsts[i] = store.Generation(), first
		})
	}
	close(start)
	wg.Wait()
	seen := make(map[int64]bool)
	for i, g := range generations {
		if seen[g] || g < 1 || g > racers {
			t.Errorf("generation %d twice, or out of 1..%d", g, racers)
		}
		seen[g] = true
		if firsts[i] != (g == 1) {
			t.Errorf("generation %d, first %v", g, firsts[i])
		}
	}
	if row := db.read(t); row.Generation != racers {
		t.Errorf("generation %d after %d takes", row.Generation, racers)
	}
}

// The other one's row is not in the snapshot of the take that waits for it.
func TestTakeThatWaitsForTheFirstIsNotTheFirst(t *testing.T) {
	db := newDatabase(t)
	tx := begin(t, db.connect(t), `insert into outrider.checkpoint (name, format, generation, instance, heartbeat_at,
		system_id, timeline, slot, lsn, delivery, updated_at)
		values ('orders', 1, 1, 'one', now(), '7', 1, 's', '2/0', 'at-least-once', now())`)
	conn := db.connect(t)
	type answer struct {
		row   checkpoint.Row
		first bool
	}
	taken, failed := make(chan answer, 1), make(chan error, 1)
	go func() {
		_, row, first, err := checkpoint.Take(t.Context(), conn, db.claim("two"))
		if err != nil {
			failed <- err
			return
		}
		taken <- answer{row, first}
	}()
	waitUntilBlocked(t, db.connect(t), conn.PgConn().PID(), failed)
	must(t, tx.Commit(t.Context()))
	select {
	case err := <-failed:
		t.Fatal(err)
	case a := <-taken:
		if a.first || a.row.Generation != 2 || a.row.LSN != 0x2_0000_0000 {
			t.Errorf("first %v, generation %d at %s; want the row of the other one, generation 2 at 2/0", a.first, a.row.Generation, a.row.LSN)
		}
	}
}

func TestSaveNeverMovesBackwards(t *testing.T) {
	db := newDatabase(t)
	store, _, _ := db.take(t, "one")
	at := func(lsn pglogrepl.LSN) error { return store.Save(t.Context(), checkpoint.Progress{LSN: lsn}) }
	if err := at(0x1_0000_000F); !errors.Is(err, checkpoint.ErrBackwards) {
		t.Errorf("below the row as taken: %v, want ErrBackwards", err)
	}
	must(t, at(0x1_0000_0010))
	must(t, at(0x2_0000_0000))
	if err := at(0x1_FFFF_FFFF); !errors.Is(err, checkpoint.ErrBackwards) {
		t.Errorf("below the last save: %v, want ErrBackwards", err)
	}
	if row := db.read(t); row.LSN != 0x2_0000_0000 {
		t.Errorf("stored %s, want 2/0", row.LSN)
	}
	store.MoveTo(0x1_0000_0001) // somebody has decided so
	must(t, at(0x1_0000_0001))
	if row := db.read(t); row.LSN != 0x1_0000_0001 {
		t.Errorf("stored %s, want 1/1", row.LSN)
	}
}

func TestSaveClearsClean(t *testing.T) {
	db := newDatabase(t)
	store, _, _ := db.take(t, "one")
	must(t, store.Save(t.Context(), checkpoint.Progress{LSN: 0x2_0000_0000, Clean: true}))
	if !db.read(t).Clean {
		t.Error("not clean after a clean stop")
	}
	must(t, store.Save(t.Context(), checkpoint.Progress{LSN: 0x2_0000_0000}))
	if db.read(t).Clean {
		t.Error("clean after a save while running")
	}
}

func TestHeartbeatMovesNothingElse(t *testing.T) {
	db := newDatabase(t)
	store, _, _ := db.take(t, "one")
	before := db.read(t)
	must(t, store.Heartbeat(t.Context()))
	after := db.read(t)
	if !after.HeartbeatAt.After(before.HeartbeatAt) {
		t.Errorf("heartbeat %v, before %v", after.HeartbeatAt, before.HeartbeatAt)
	}
	after.HeartbeatAt = before.HeartbeatAt
	if !reflect.DeepEqual(before, after) {
		t.Errorf("row\n%+v, want\n%+v", after, before)
	}
}

func TestTakeAsksForDurableCommits(t *testing.T) {
	db := newDatabase(t)
	conn := db.connect(t)
	for setting, durable := range map[string]bool{"off": false, "local": false, "on": true, "remote_write": true, "remote_apply": true} {
		harness.Exec(t, conn, "set synchronous_commit to "+setting)
		_, _, _, err := checkpoint.Take(t.Context(), conn, db.claim("one"))
		if durable != (err == nil) {
			t.Errorf("%s: %v", setting, err)
		}
		if !durable && (err == nil || !strings.Contains(err.Error(), "synchronous_commit is "+setting)) {
			t.Errorf("%s: the error does not say so: %v", setting, err)
		}
	}
}

func TestNewerFormatIsRefusedAndNotFenced(t *testing.T) {
	db := newDatabase(t)
	db.take(t, "newer")
	conn := db.connect(t)
	harness.Exec(t, conn, "update outrider.checkpoint set format = $1", checkpoint.Format+1)
	if _, _, _, err := checkpoint.Take(t.Context(), conn, db.claim("older")); !errors.Is(err, checkpoint.ErrNewerFormat) {
		t.Errorf("take: %v, want ErrNewerFormat", err)
	}
	if _, _, err := checkpoint.Read(t.Context(), conn, "orders"); !errors.Is(err, checkpoint.ErrNewerFormat) {
		t.Errorf("read: %v, want ErrNewerFormat", err)
	}
	var generation int
	must(t, conn.QueryRow(t.Context(), "select generation from outrider.checkpoint").Scan(&generation))
	if generation != 1 {
		t.Errorf("generation %d, want 1: the newer program's session was fenced", generation)
	}
}

func TestReadFindsNothingWhereThereIsNoTable(t *testing.T) {
	db := newDatabase(t)
	conn := db.connect(t)
	harness.Exec(t, conn, "drop schema outrider cascade")
	if _, found, err := checkpoint.Read(t.Context(), conn, "orders"); found || err != nil {
		t.Errorf("found %v, error %v", found, err)
	}
}

func TestSaveIsOneRoundTrip(t *testing.T) {
	db := newDatabase(t)
	conn := db.connect(t)
	store, _, _, err := checkpoint.Take(t.Context(), conn, db.claim("one"))
	must(t, err)
	must(t, store.Save(t.Context(), checkpoint.Progress{LSN: 0x2_0000_0000})) // prepares the statement
	var wire bytes.Buffer
	conn.PgConn().Frontend().Trace(&wire, pgproto3.TracerOptions{SuppressTimestamps: true})
	must(t, store.Save(t.Context(), checkpoint.Progress{LSN: 0x2_0000_0001}))
	conn.PgConn().Frontend().Untrace()
	if syncs, parses := strings.Count(wire.String(), "Sync"), strings.Count(wire.String(), "Parse\t"); syncs != 1 || parses != 0 {
		t.Errorf("%d round trips and %d statements parsed for one save, want 1 and 0:\n%s", syncs, parses, &wire)
	}
}
