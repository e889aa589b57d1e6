package inbox_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/sink/inbox"
	"github.com/outrider-relay/outrider/test/harness"
)

// A transaction is one of pgx or of database/sql, for the claims that hold for both.
type transaction struct {
	enter            func(consumer, id string) (bool, error)
	commit, rollback func() error
}

// onBothClients runs a test with transactions of either client on one database.
func onBothClients(t *testing.T, test func(t *testing.T, url string, begin func(t *testing.T) transaction)) {
	t.Run("pgx", func(t *testing.T) {
		url := newURL(t)
		test(t, url, func(t *testing.T) transaction {
			tx, err := harness.Connect(t, url).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return transaction{
				func(consumer, id string) (bool, error) { return inbox.Enter(t.Context(), tx, consumer, id) },
				func() error { return tx.Commit(t.Context()) }, func() error { return tx.Rollback(t.Context()) },
			}
		})
	})
	t.Run("database/sql", func(t *testing.T) {
		url := newURL(t)
		db := open(t, url)
		test(t, url, func(t *testing.T) transaction {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			return transaction{
				func(consumer, id string) (bool, error) { return inbox.EnterSQL(t.Context(), tx, consumer, id) },
				tx.Commit, tx.Rollback,
			}
		})
	})
}

// enter enters one event and says what became of it.
func enter(t *testing.T, tx transaction, consumer, id string, wantFirst bool) {
	t.Helper()
	first, err := tx.enter(consumer, id)
	if err != nil {
		t.Fatal(err)
	}
	if first != wantFirst {
		t.Errorf("%s enters %s: first is %v", consumer, id, first)
	}
}

func end(t *testing.T, how func() error) {
	t.Helper()
	if err := how(); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyACommittedEntryCounts(t *testing.T) {
	onBothClients(t, func(t *testing.T, _ string, begin func(t *testing.T) transaction) {
		tx := begin(t)
		enter(t, tx, "billing", "a", true)
		enter(t, tx, "billing", "a", false)
		end(t, tx.rollback)
		tx = begin(t)
		enter(t, tx, "billing", "a", true)
		end(t, tx.commit)
		tx = begin(t)
		enter(t, tx, "billing", "a", false)
		enter(t, tx, "billing", "b", true)
		enter(t, tx, "shipping", "a", true)
		end(t, tx.commit)
	})
}

// As during a rebalance, when the old owner of a partition is still at work on what the new one is given.
func TestOfTwoAtOnceOneIsFirst(t *testing.T) {
	for _, how := range []struct {
		name      string
		end       func(transaction) func() error
		wantFirst bool // for the one that came second
	}{
		{"the first commits", func(tx transaction) func() error { return tx.commit }, false},
		{"the first rolls back", func(tx transaction) func() error { return tx.rollback }, true},
	} {
		t.Run(how.name, func(t *testing.T) {
			onBothClients(t, func(t *testing.T, url string, begin func(t *testing.T) transaction) {
				one, two := begin(t), begin(t)
				enter(t, one, "billing", "a", true)
				var first atomic.Bool
				var wg sync.WaitGroup
				wg.Go(func() {
					var err error
					var entered bool
					if entered, err = two.enter("billing", "a"); err != nil {
						t.Error(err)
					}
					first.Store(entered)
				})
				awaitLockWait(t, url)
				end(t, how.end(one))
				wg.Wait()
				if first.Load() != how.wantFirst {
					t.Errorf("first is %v for the second", first.Load())
				}
				end(t, two.rollback)
			})
		})
	}
}

// awaitLockWait waits until somebody waits for a lock in the database.
func awaitLockWait(t *testing.T, url string) {
	t.Helper()
	conn := harness.Connect(t, url)
	harness.Eventually(t, 10*time.Second, "wait for a lock", func() error {
		if query[int](t, conn, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == 0 {
			return fmt.Errorf("nobody waits")
		}
		return nil
	})
}

func TestEntryWithoutNameIsRefused(t *testing.T) {
	onBothClients(t, func(t *testing.T, _ string, begin func(t *testing.T) transaction) {
		for _, c := range []struct{ consumer, id, want string }{
			{"", "a", "the consumer has no name"},
			{"billing", "", "the event has no id"},
		} {
			tx := begin(t)
			if first, err := tx.enter(c.consumer, c.id); err == nil || first || !strings.Contains(err.Error(), c.want) {
				t.Errorf("consumer %q, id %q: %v, %v", c.consumer, c.id, first, err)
			}
			end(t, tx.rollback)
		}
	})
}

func TestErrorNamesEventAndConsumer(t *testing.T) {
	onBothClients(t, func(t *testing.T, url string, begin func(t *testing.T) transaction) {
		harness.Exec(t, harness.Connect(t, url), `drop table event_inbox`)
		tx := begin(t)
		first, err := tx.enter("billing", "a")
		if want := "enter event a in the inbox of billing: "; err == nil || first || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, %v, want %s", first, err, want)
		}
		end(t, tx.rollback)
	})
}

func TestSchemaCanBeMadeByManyAtOnceAndAgain(t *testing.T) {
	url := newURL(t)
	harness.Exec(t, harness.Connect(t, url), `drop table event_inbox`)
	// The strictest default: each must still see what the one before it has created.
	url += "&default_transaction_isolation=serializable"
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 8 {
		conn := harness.Connect(t, url)
		wg.Go(func() {
			<-start
			if _, err := conn.Exec(t.Context(), inbox.Schema()); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()

	conn := harness.Connect(t, url)
	harness.Exec(t, conn, `create role inbox_reader`)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, sql := range []string{`reset role`, `drop role inbox_reader`} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
	})
	harness.Exec(t, conn, `set role inbox_reader`)
	harness.Exec(t, conn, inbox.Schema())
}

func TestSweepTakesTheOldOfOneConsumer(t *testing.T) {
	sweeps := map[string]func(t *testing.T, url string) (int64, error){
		"pgx": func(t *testing.T, url string) (int64, error) {
			return inbox.Sweep(t.Context(), harness.Connect(t, url), "billing", time.Hour)
		},
		"database/sql": func(t *testing.T, url string) (int64, error) {
			return inbox.SweepSQL(t.Context(), open(t, url), "billing", time.Hour)
		},
	}
	for client, sweep := range sweeps {
		t.Run(client, func(t *testing.T) {
			url := newURL(t)
			conn := harness.Connect(t, url)
			const old = 2500 // more than two batches
			fill := func(consumer, age string, n int) {
				harness.Exec(t, conn, `insert into event_inbox select $1, $2 || n, now() - $2::text::interval from generate_series(1, $3) n`, consumer, age, n)
			}
			fill("billing", "61 minutes", old)
			fill("billing", "59 minutes", 7)
			fill("shipping", "61 minutes", 5)
			if swept, err := sweep(t, url); err != nil || swept != old {
				t.Errorf("swept %d, %v, want %d", swept, err, old)
			}
			for consumer, want := range map[string]int{"billing": 7, "shipping": 5} {
				if left := query[int](t, conn, `select count(*) from event_inbox where consumer = $1`, consumer); left != want {
					t.Errorf("%d rows of %s are left, want %d", left, consumer, want)
				}
			}
			if swept, err := sweep(t, url); err != nil || swept != 0 {
				t.Errorf("swept %d more, %v", swept, err)
			}
		})
	}
}

func TestSweepWaitsForNoOther(t *testing.T) {
	url := newURL(t)
	conn, other := harness.Connect(t, url), harness.Connect(t, url)
	harness.Exec(t, conn, `insert into event_inbox select 'billing', n, now() - interval '2 hours' from generate_series(1, 10) n`)
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `delete from event_inbox where id in ('3', '4')`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if swept, err := inbox.Sweep(ctx, conn, "billing", time.Hour); err != nil || swept != 8 {
		t.Errorf("swept %d, %v, want 8", swept, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestSweepOfEverythingIsRefused(t *testing.T) {
	conn := harness.Connect(t, newURL(t))
	harness.Exec(t, conn, `insert into event_inbox values ('billing', 'a', now() - interval '2 hours')`)
	for _, age := range []time.Duration{0, -time.Hour} {
		if swept, err := inbox.Sweep(t.Context(), conn, "billing", age); err == nil || swept != 0 {
			t.Errorf("older than %s: swept %d, %v", age, swept, err)
		}
	}
}

// A transaction that has its snapshot already cannot see who was first, and must not guess.
func TestRepeatableReadIsToldToTryAgain(t *testing.T) {
	url := newURL(t)
	one, two := harness.Connect(t, url), harness.Connect(t, url)
	tx, err := one.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select`); err != nil {
		t.Fatal(err)
	}
	harness.Exec(t, two, `insert into event_inbox values ('billing', 'a')`)
	first, err := inbox.Enter(t.Context(), tx, "billing", "a")
	if err == nil || first || !strings.Contains(err.Error(), "40001") {
		t.Errorf("%v, %v, want SQLSTATE 40001", first, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}
