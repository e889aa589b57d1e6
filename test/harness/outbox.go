package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// CreateOutbox makes the table public.outbox as the relay's own migration does, but with columns that may be NULL: what
// an application can get wrong has to be tested too.
func CreateOutbox(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	Exec(t, conn, `create table public.outbox (id uuid not null default gen_random_uuid() primary key, aggregate_type text, aggregate_id text,
		event_type text not null, payload jsonb, headers jsonb not null default '{}', created_at timestamptz not null default now())`)
}

// Writer commits rows to public.outbox, a transaction a row, until it is stopped. Row n is the n-th of the writer's and
// says so in its payload, so that the order of each key can be checked.
type Writer struct {
	count atomic.Int64
	stop  context.CancelFunc
	done  chan error
	once  sync.Once
}

// StartWriter begins to write rows of the aggregate types in turn, with 10 keys each and a payload of about size bytes,
// one every pace.
func StartWriter(t testing.TB, url string, pace time.Duration, size int, aggregates ...string) *Writer {
	t.Helper()
	conn := Connect(t, url)
	ctx, stop := context.WithCancel(t.Context())
	w := &Writer{stop: stop, done: make(chan error, 1)}
	go func() { w.done <- w.write(ctx, conn, pace, size, aggregates) }()
	t.Cleanup(func() { w.Stop(t) })
	return w
}

func (w *Writer) write(ctx context.Context, conn *pgx.Conn, pace time.Duration, size int, aggregates []string) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := int64(1); ; n++ {
		aggregate := aggregates[n%int64(len(aggregates))]
		// Not with ctx: whether a cancelled insert was committed would be unknown.
		_, err := conn.Exec(context.WithoutCancel(ctx), `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload) values ($1, $2, 'Written', jsonb_build_object('n', $3::bigint, 'pad', repeat('x', $4)))`,
			aggregate, fmt.Sprintf("k%d", rand.IntN(10)), n, size)
		if err != nil {
			return err
		}
		w.count.Add(1)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Count is the number of rows committed so far.
func (w *Writer) Count() int64 { return w.count.Load() }

// Stop ends the writing, and gives the number of rows committed. It may be called more than once.
func (w *Writer) Stop(t testing.TB) int64 {
	t.Helper()
	w.once.Do(func() {
		w.stop()
		if err := <-w.done; err != nil {
			t.Errorf("write to the outbox: %v", err)
		}
	})
	return w.Count()
}

// WriteRows commits rows first to last in one transaction: aggregate type, keys k0 to k9 in turn, and the number n and
// size more bytes as payload.
func WriteRows(t testing.TB, conn *pgx.Conn, aggregate string, first, last, size int) {
	t.Helper()
	Exec(t, conn, `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload)
		select $1, 'k' || n % 10, 'Written', jsonb_build_object('n', n, 'pad', repeat('x', $4)) from generate_series($2::bigint, $3::bigint) n`, aggregate, first, last, size)
}

// Repeats says whether a record may be in Kafka more than once.
type Repeats bool

const (
	NoRepeats  Repeats = false
	MayRepeat  Repeats = true
	bytesShown         = 60 // of a value that differs
)

// CheckDelivered compares what topics hold with what public.outbox holds: every row is there, with its id, key and bytes;
// nothing else is; positions are unique; and the rows of a key come in the order of their number n. Where repeats may be,
// the first of each counts.
func CheckDelivered(t testing.TB, conn *pgx.Conn, brokers []string, repeats Repeats, topics ...string) {
	t.Helper()
	faults, missing := compare(readOutbox(t, conn), ReadAll(t, brokers, topics...), repeats)
	failOn(t, faults, topics)
	if missing != nil {
		t.Fatalf("%v: %v", topics, missing)
	}
}

// AwaitDelivered waits until topics hold every row that public.outbox has now, and checks them as CheckDelivered does.
func AwaitDelivered(t testing.TB, conn *pgx.Conn, brokers []string, repeats Repeats, patience time.Duration, topics ...string) {
	t.Helper()
	outbox := readOutbox(t, conn)
	// What the ends of the partitions count is cheaper to ask, but markers are among it.
	AwaitRecords(t, brokers, int64(len(outbox)), patience, topics...)
	Eventually(t, patience, fmt.Sprintf("all rows in %v", topics), func() error {
		faults, missing := compare(outbox, ReadAll(t, brokers, topics...), repeats)
		failOn(t, faults, topics)
		return missing
	})
}

// failOn fails the test on faults that time does not mend.
func failOn(t testing.TB, faults, topics []string) {
	t.Helper()
	if len(faults) > 0 {
		t.Fatalf("%d faults in what %v hold:\n%s", len(faults), topics, strings.Join(faults[:min(len(faults), 20)], "\n"))
	}
}

// AwaitRecords waits until topics hold at least that many records.
func AwaitRecords(t testing.TB, brokers []string, want int64, patience time.Duration, topics ...string) {
	t.Helper()
	adm := Admin(t, brokers)
	Eventually(t, patience, fmt.Sprintf("%d records in %v", want, topics), func() error {
		got, err := endOffsets(t.Context(), adm, topics)
		if err == nil && got < want {
			err = fmt.Errorf("there are %d", got)
		}
		return err
	})
}

// outboxRow is a row as it should arrive.
type outboxRow struct {
	key, value string
	n          int64
}

func readOutbox(t testing.TB, conn *pgx.Conn) map[string]outboxRow {
	t.Helper()
	rows, err := conn.Query(t.Context(), `select id::text, coalesce(aggregate_id, ''), payload::text, (payload->>'n')::bigint from public.outbox`)
	if err != nil {
		t.Fatal(err)
	}
	outbox := make(map[string]outboxRow)
	var id string
	var row outboxRow
	_, err = pgx.ForEachRow(rows, []any{&id, &row.key, &row.value, &row.n}, func() error {
		outbox[id] = row
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return outbox
}

// compare lists what is wrong with records, which come in the order of their partitions, and says what is missing among them.
func compare(outbox map[string]outboxRow, records []*kgo.Record, repeats Repeats) (faults []string, missing error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	seen := make(map[string]string, len(records)) // position by id
	positions := make(map[string]string, len(records))
	last := make(map[string]int64) // n by topic and key
	for _, r := range records {
		at := fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset)
		id, position := Header(r, "id"), Header(r, "outrider-position")
		row, known := outbox[id]
		before, again := seen[id]
		switch {
		case !known:
			fault("%s: id %s was never committed", at, id)
			continue
		case again && (repeats == NoRepeats || before != position):
			fault("%s: id %s again, at position %s after %s", at, id, position, before)
			continue
		case again:
			continue
		}
		seen[id] = position
		if other, taken := positions[position]; taken {
			fault("%s: position %s belongs to %s and to %s", at, position, other, id)
		}
		positions[position] = id
		if string(r.Key) != row.key {
			fault("%s: key %q, not %q", at, r.Key, row.key)
		}
		if string(r.Value) != row.value {
			fault("%s: value %q, not %q", at, r.Value[:min(len(r.Value), bytesShown)], row.value[:min(len(row.value), bytesShown)])
		}
		if lane := r.Topic + " " + row.key; row.n <= last[lane] {
			fault("%s: row %d of key %s after row %d", at, row.n, row.key, last[lane])
		} else {
			last[lane] = row.n
		}
	}
	var absent []int64
	for id, row := range outbox {
		if _, there := seen[id]; !there {
			absent = append(absent, row.n)
		}
	}
	if len(absent) > 0 {
		missing = fmt.Errorf("%d of %d rows are missing, the first of them number %d", len(absent), len(outbox), slices.Min(absent))
	}
	return faults, missing
}
