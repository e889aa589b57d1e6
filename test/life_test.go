package test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/failpoint"
	"github.com/outrider-relay/outrider/test/harness"
)

// life is what a relay goes through, always under load: its start, three sessions of which the first two are cut off, and a
// drain.
type life string

const (
	// firstStart begins with nothing: no publication, no slot, no checkpoint.
	firstStart life = "first start"
	// takeover begins beside a leader, which is then killed and leaves a tail behind.
	takeover life = "takeover"
)

// world is a database with an outbox and two topics, for the lives of one relay's name.
type world struct {
	conn    *pgx.Conn
	url     string
	options harness.RelayOptions
	slot    string
	hits    string // file

	writer       *pgx.Conn
	first, other string // aggregate types
	both         atomic.Bool
	stop         func() map[string]int // ends the load and gives the rows written by key; nil until it has begun
}

func newWorld(t *testing.T, bin string) *world {
	t.Helper()
	pg, kafka, name := sharedPostgres(t), sharedKafka(t), uniqueName(t)
	w := &world{
		url: pg.NewDatabase(t), first: name + "a", other: name + "b", slot: "outrider_" + name,
		hits: filepath.Join(t.TempDir(), "hits"),
	}
	server := pg.Connect(t)
	w.options = harness.RelayOptions{
		Name: name, Postgres: w.url, Kafka: kafka.Brokers(), Binary: bin,
		Config: exactly + "checkpoint: { interval: 200ms }\n",
	}
	for _, topic := range w.topics() {
		kafka.CreateTopic(t, topic, 3, 1, nil)
	}
	w.conn, w.writer = harness.Connect(t, w.url), harness.Connect(t, w.url)
	harness.Exec(t, w.conn, createOutbox)
	admin := harness.Admin(t, kafka.Brokers())
	t.Cleanup(func() { w.remove(t, server, admin) })
	return w
}

// remove takes a world away: hundreds of them would not fit on the servers.
func (w *world) remove(t *testing.T, server *pgx.Conn, admin *kadm.Client) {
	ctx := context.WithoutCancel(t.Context())
	harness.Eventually(t, 30*time.Second, "the slot is dropped", func() error { // its walsender may be ending still
		_, err := server.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1`, w.slot)
		return err
	})
	_, err := server.Exec(ctx, "drop database "+pgx.Identifier{w.conn.Config().Database}.Sanitize()+" with (force)")
	if err == nil {
		_, err = admin.DeleteTopics(ctx, w.topics()...)
	}
	if err != nil {
		t.Errorf("remove the world: %v", err)
	}
}

func (w *world) topics() []string {
	return []string{"outbox.event." + w.first, "outbox.event." + w.other}
}

// run leads a relay through its life, to be killed at e unless that is zero, and then another one to where everything that
// was written has arrived: exactly once, and in order. It gives the hits of the first one, and whether it was killed.
func (w *world) run(t *testing.T, e ending, seed uint64) (hits map[string]int, killed bool) {
	t.Helper()
	env := []string{failpoint.Hits + "=" + w.hits}
	if e.point != "" {
		env = append(env, fmt.Sprintf("%s=%s:%d", failpoint.Kill, e.point, e.hit), failpoint.Hold+"="+e.hold.String())
	}
	var subject *harness.Relay
	if e.life == takeover {
		subject = w.takeOver(t, env, seed)
	} else {
		subject = w.startFirst(t, env, seed)
	}
	w.lead(t, subject)
	code := subject.ExitCode(t, time.Minute)
	hits, err := readHits(w.hits)
	if err != nil {
		t.Fatal(err)
	}
	const signalled = -1
	killed = code == signalled
	switch {
	case killed && hits[e.point] < e.hit:
		t.Fatalf("the relay was killed elsewhere: %d hits of %q", hits[e.point], e.point)
	case !killed && code != 0:
		t.Fatalf("exit code %d", code)
	}
	w.checkConfirmed(t)
	w.settle(t, seed)
	return hits, killed
}

// start starts a relay. What it hits is kept apart where env asks for it.
func (w *world) start(t *testing.T, env ...string) *harness.Relay {
	t.Helper()
	o := w.options
	o.Env = env
	return harness.StartRelay(t, o)
}

// write begins the load, if it has not begun. What is written before there is a slot would not be sent.
func (w *world) write(t *testing.T, seed uint64) {
	t.Helper()
	if w.stop != nil {
		return
	}
	w.stop = counters(t, w.writer, seed, func(i int) string {
		if i%2 == 1 && w.both.Load() {
			return w.other
		}
		return w.first
	})
}

// startFirst is the beginning of a life that begins with nothing.
func (w *world) startFirst(t *testing.T, env []string, seed uint64) *harness.Relay {
	t.Helper()
	w.both.Store(true)
	subject := w.start(t, env...)
	if sees(t, subject, "the slot", w.hasSlot) {
		w.write(t, seed)
	}
	return subject
}

func (w *world) hasSlot() error {
	var made bool
	err := w.conn.QueryRow(context.Background(), `select exists (select from pg_replication_slots where slot_name = $1 and confirmed_flush_lsn is not null)`, w.slot).Scan(&made)
	if err == nil && !made {
		err = errors.New("there is none")
	}
	return err
}

// takeOver is the beginning of a life beside a leader. When that one has gone, rows for partitions come up that nobody has
// registered.
func (w *world) takeOver(t *testing.T, env []string, seed uint64) *harness.Relay {
	t.Helper()
	leader := w.start(t)
	leader.AwaitState(t, cdc.Relaying, 30*time.Second)
	w.write(t, seed)
	harness.Eventually(t, 30*time.Second, "records flow", relayed(leader, 1000))
	subject := w.start(t, env...)
	sees(t, subject, "the state standby", func() error {
		st, err := subject.Status()
		if err == nil && st.State != cdc.Standby {
			err = fmt.Errorf("it is %s", st.State)
		}
		return err
	})
	leader.Kill()
	w.both.Store(true)
	return subject
}

// lead leads a relay from its first session to its end, as far as it comes.
func (w *world) lead(t *testing.T, subject *harness.Relay) {
	t.Helper()
	cuts := []string{
		`select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active`,
		// Nothing can be stored any more: what was acked since the last save is the tail.
		`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'outrider/' || substr($1, length('outrider_') + 1)`,
	}
	for session := 0; ; session++ {
		before, err := readHits(w.hits)
		if err != nil {
			t.Fatal(err)
		}
		if !sees(t, subject, "work of every kind", func() error {
			now, err := readHits(w.hits)
			for what, n := range map[string]int{"renewed": 2, "notes written": 2, "reported": 2, "batch let go": 20} {
				if now[what]-before[what] < n {
					err = errors.Join(err, fmt.Errorf("%s: %d times since the session began", what, now[what]-before[what]))
				}
			}
			return err
		}) {
			return
		}
		if session == len(cuts) {
			break
		}
		harness.Exec(t, w.conn, cuts[session], w.slot)
	}
	subject.Signal(syscall.SIGTERM)
}

// settle has another relay deliver the rest, and compares.
func (w *world) settle(t *testing.T, seed uint64) {
	t.Helper()
	heir := w.start(t)
	heir.AwaitState(t, cdc.Relaying, 30*time.Second)
	w.write(t, seed)
	harness.Eventually(t, 30*time.Second, "records flow", relayed(heir, 1000))
	written := w.stop()
	brokers := w.options.Kafka
	checkExactly(t, brokers, written, w.topics()...) // also waits for the last one
	if code := heir.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	checkExactly(t, brokers, written, w.topics()...)
}

// checkConfirmed fails the test if Postgres may have forgotten what is not stored.
func (w *world) checkConfirmed(t *testing.T) {
	t.Helper()
	var table *string
	if err := w.conn.QueryRow(t.Context(), `select to_regclass('outrider.checkpoint')::text`).Scan(&table); err != nil {
		t.Fatal(err)
	}
	if table == nil {
		return
	}
	var confirmed, stored string
	err := w.conn.QueryRow(t.Context(), `select s.confirmed_flush_lsn::text, c.lsn::text from pg_replication_slots s, outrider.checkpoint c
		where s.slot_name = $1 and s.confirmed_flush_lsn > c.lsn`, w.slot).Scan(&confirmed, &stored)
	if err == nil {
		t.Errorf("the slot is confirmed up to %s, and %s is stored", confirmed, stored)
	} else if !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
}

// relayed says whether a relay has relayed n records.
func relayed(r *harness.Relay, n int64) func() error {
	return func() error {
		st, err := r.Status()
		if err == nil && st.Records.Relayed < n {
			err = fmt.Errorf("%d of %d are relayed", st.Records.Relayed, n)
		}
		return err
	}
}

// sees waits until check returns nil, and says whether the relay has lived to see it.
func sees(t *testing.T, r *harness.Relay, what string, check func() error) bool {
	t.Helper()
	harness.Eventually(t, time.Minute, what, func() error {
		if !r.Running() {
			return nil
		}
		return check()
	})
	return r.Running()
}
