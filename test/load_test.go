package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/outrider-relay/outrider/test/harness"
)

// load fills an outbox from several connections at once with transactions of every shape, until it is stopped. Each row
// takes the next version of its key under the key's lock, so that the versions of a key are in commit order; the version
// is the number n that harness.CheckDelivered goes by. Connections that a server ends are made again.
type load struct {
	stop  context.CancelFunc
	group errgroup.Group
	once  sync.Once
	rows  atomic.Int64 // committed, as far as it is known
}

// loadKeys is the number of keys: few enough that writers wait for each other.
const loadKeys = 40

// startLoad begins with writers connections, each of which rests for pause after a transaction.
func startLoad(t *testing.T, s *scene, writers int, pause time.Duration) *load {
	t.Helper()
	harness.Exec(t, s.conn, `create table aggregate (id text primary key, version bigint not null)`)
	harness.Exec(t, s.conn, `insert into aggregate select 'k' || i, 0 from generate_series(0, $1::int - 1) i`, loadKeys)
	seed := rand.Uint64()
	t.Logf("seed of the load: %d", seed)
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop}
	for i := range writers {
		w := &loadWriter{url: s.url, aggregate: s.kind, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		l.group.Go(func() error { return l.run(ctx, w, pause) })
	}
	t.Cleanup(func() { l.finish(t) })
	return l
}

// finish ends the load after the transactions that are under way.
func (l *load) finish(t *testing.T) {
	t.Helper()
	l.once.Do(func() {
		l.stop()
		if err := l.group.Wait(); err != nil {
			t.Errorf("write to the outbox: %v", err)
		}
	})
}

// awaitRows waits until that many more rows are committed.
func (l *load) awaitRows(t *testing.T, more int64) {
	t.Helper()
	want := l.rows.Load() + more
	harness.Eventually(t, 2*patience, fmt.Sprintf("%d rows are committed", want), func() error {
		if n := l.rows.Load(); n < want {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
}

func (l *load) run(ctx context.Context, w *loadWriter, pause time.Duration) error {
	defer w.disconnect()
	tick := time.NewTicker(max(pause, time.Millisecond))
	defer tick.Stop()
	for ctx.Err() == nil {
		// Not with ctx: whether a transaction was committed that is cancelled in its commit would be unknown.
		rows, err := w.transact(context.WithoutCancel(ctx))
		var refused *pgconn.PgError
		switch {
		case err == nil:
			l.rows.Add(int64(rows))
		case errors.As(err, &refused) && !strings.HasPrefix(refused.Code, "57P"): // not a server that stops or starts
			return err
		default:
			w.disconnect()
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// loadWriter is one of a load's connections.
type loadWriter struct {
	url, aggregate string
	rng            *rand.Rand
	conn           *pgx.Conn // nil: not connected
}

func (w *loadWriter) disconnect() {
	if w.conn != nil {
		_ = w.conn.Close(context.Background())
		w.conn = nil
	}
}

// transact commits rows of one to three keys, or rolls them back, and gives the number of rows committed.
func (w *loadWriter) transact(ctx context.Context) (rows int, err error) {
	if w.conn == nil {
		if w.conn, err = pgx.Connect(ctx, w.url); err != nil {
			return 0, err
		}
	}
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	keys := w.rng.Perm(loadKeys)[:1+w.rng.IntN(3)]
	slices.Sort(keys) // in one order, so that writers never deadlock
	for _, key := range keys {
		n := 1 + w.rng.IntN(12)
		if err := w.write(ctx, tx, fmt.Sprintf("k%d", key), n); err != nil {
			return 0, err
		}
		rows += n
	}
	if w.rng.IntN(8) == 0 {
		return 0, tx.Rollback(ctx)
	}
	return rows, tx.Commit(ctx)
}

// write inserts n rows of a key in one of the ways in which a transaction can hold them.
func (w *loadWriter) write(ctx context.Context, tx pgx.Tx, key string, n int) error {
	insert := []func(context.Context, pgx.Tx, string, []string) error{w.single, w.multi, w.copy}[w.rng.IntN(3)]
	switch w.rng.IntN(4) {
	case 0: // what a savepoint gave up must not arrive, and the same versions come again
		if err := w.nested(ctx, tx, key, 1+w.rng.IntN(5), insert, pgx.Tx.Rollback); err != nil {
			return err
		}
		return w.nested(ctx, tx, key, n, insert, pgx.Tx.Commit)
	case 1: // a subtransaction
		return w.nested(ctx, tx, key, n, insert, pgx.Tx.Commit)
	}
	return w.versions(ctx, tx, key, n, insert)
}

// nested does it within a savepoint, which end releases or rolls back to.
func (w *loadWriter) nested(ctx context.Context, tx pgx.Tx, key string, n int, insert func(context.Context, pgx.Tx, string, []string) error, end func(pgx.Tx, context.Context) error) error {
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if err := w.versions(ctx, savepoint, key, n, insert); err != nil {
		return err
	}
	return end(savepoint, ctx)
}

// versions takes the next n versions of key, and with them its lock, and inserts their rows.
func (w *loadWriter) versions(ctx context.Context, tx pgx.Tx, key string, n int, insert func(context.Context, pgx.Tx, string, []string) error) error {
	var last int64
	if err := tx.QueryRow(ctx, `update aggregate set version = version + $2 where id = $1 returning version`, key, n).Scan(&last); err != nil {
		return err
	}
	payloads := make([]string, n)
	for i := range payloads {
		payloads[i] = w.payload(last - int64(n-1-i))
	}
	return insert(ctx, tx, key, payloads)
}

const insertRow = `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload) values ($1, $2, 'Written', $3::text::jsonb)`

func (w *loadWriter) single(ctx context.Context, tx pgx.Tx, key string, payloads []string) error {
	for _, p := range payloads {
		if _, err := tx.Exec(ctx, insertRow, w.aggregate, key, p); err != nil {
			return err
		}
	}
	return nil
}

const insertRows = `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload)
	select $1, $2, 'Written', p::jsonb from unnest($3::text[]) with ordinality u (p, i) order by i`

func (w *loadWriter) multi(ctx context.Context, tx pgx.Tx, key string, payloads []string) error {
	_, err := tx.Exec(ctx, insertRows, w.aggregate, key, payloads)
	return err
}

func (w *loadWriter) copy(ctx context.Context, tx pgx.Tx, key string, payloads []string) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"public", "outbox"}, []string{"aggregate_type", "aggregate_id", "event_type", "payload"},
		pgx.CopyFromSlice(len(payloads), func(i int) ([]any, error) {
			return []any{w.aggregate, key, "Written", json.RawMessage(payloads[i])}, nil
		}))
	return err
}

// payload is a document with number n, and with something that is easily spoiled on the way.
func (w *loadWriter) payload(n int64) string {
	spoilable := []string{
		`""`, `"\\ \" \n \t '' %s \\N"`, `"Zoë, 東京 and 🚀"`, `12345678901234567890.12345678901234567890`, `{"b": [1, {"a": null}], "a": -0.0e-7}`, `"\u0001\u200b"`,
		`"` + strings.Repeat("long ", w.rng.IntN(4000)) + `"`,
	}
	return fmt.Sprintf(`{"n": %d, "s": %s}`, n, spoilable[w.rng.IntN(len(spoilable))])
}
