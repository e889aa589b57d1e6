package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// stage is the servers, the relays between them, and what is known of both sides.
type stage struct {
	plan         Plan
	dir          string // secrets and settings
	database     *database
	cluster      *cluster
	seats        []*seat
	journal      *journal
	tally        *tally
	availability *availability
	checker      *checker
	witness      *witness

	leads    atomic.Pointer[string] // the instance that has taken the checkpoint last
	verdicts sync.RWMutex           // held for writing by what makes a verdict, and by nobody else then
	hopeless chan struct{}          // closed when the relays are blocked for good
	blocked  sync.Once
	compared int          // how many of journal.witnessed live has compared
	secrets  int          // passwords so far
	misfits  atomic.Int64 // what is not as the relays' settings say
	fitAt    atomic.Int64 // when that ended last, in Unix nanoseconds
}

// newStage starts everything but the relays. The caller closes it, also after an error.
func newStage(ctx context.Context, p Plan) (s *stage, err error) {
	s = &stage{plan: p, tally: newTally(p), availability: &availability{}, hopeless: make(chan struct{})}
	s.journal = newJournal(s.tally)
	s.checker = newChecker(s)
	if s.dir, err = os.MkdirTemp("", "outrider-torture-"); err != nil {
		return s, err
	}
	if s.plan.RelayBinary == "" {
		if s.plan.RelayBinary, err = harness.Build(); err != nil {
			return s, err
		}
	}
	for _, name := range []string{"a", "b"} {
		seat, err := newSeat(name, s.tally, p.Keep)
		if err != nil {
			return s, err
		}
		seat.excused = s.misfit
		s.seats = append(s.seats, seat)
	}
	say("starting Postgres and its standby")
	if s.database, err = startDatabase(ctx); err != nil {
		return s, err
	}
	s.witness = &witness{database: s.database, journal: s.journal}
	say("starting Kafka, %d nodes", nodes)
	if s.cluster, err = startCluster(ctx, s.seats, p.BetweenBrokers); err != nil {
		return s, err
	}
	if err := s.prepare(ctx); err != nil {
		return s, fmt.Errorf("prepare the servers: %w", err)
	}
	primary, _ := s.database.now()
	s.tally.count(func(r *Report) { r.Postgres, r.Kafka = primary.Major, s.cluster.Version })
	return s, nil
}

// prepare makes what the writers, the relays and the witness need.
func (s *stage) prepare(ctx context.Context) error {
	if err := s.cluster.createTopics(ctx); err != nil {
		return err
	}
	secret := s.nextSecret()
	if err := s.cluster.setPassword(ctx, secret); err != nil {
		return err
	}
	if err := errors.Join(s.tell("kafka", secret), s.tell("postgres", secret)); err != nil {
		return err
	}
	err := s.database.exec(ctx, `create role relay login replication password '`+secret+`'`, `create schema torture`,
		`create table torture.ledger (number bigint primary key)`, `create table torture.aggregate (id int primary key, version bigint not null)`,
		fmt.Sprintf(`insert into torture.aggregate select i, 0 from generate_series(0, %d) i`, aggregates-1))
	if err != nil {
		return err
	}
	if out, err := s.outrider(ctx, "init", "--role", "relay"); err != nil {
		return fmt.Errorf("outrider init: %w\n%s", err, out)
	}
	err = s.database.exec(ctx, `grant delete on public.outbox to relay`, `create publication `+witnessName+` for table public.outbox with (publish = 'insert')`)
	if err != nil {
		return err
	}
	for _, seat := range s.seats {
		seat.postgres.SetTarget(hostOf(s.database.url()))
		seat.options = harness.RelayOptions{
			Name: relayName, Postgres: fmt.Sprintf("postgres://relay@%s/postgres?sslmode=disable", seat.postgres.Addr()),
			Config: s.settings(), Binary: s.plan.RelayBinary, Env: s.plan.RelayEnv,
		}
		seat.toKafka(func(p *harness.Proxy) { seat.options.Kafka = append(seat.options.Kafka, p.Addr()) })
	}
	return s.witness.ensureSlot(ctx)
}

// settings are the relays': those of a careful operator, but for times that are short.
func (s *stage) settings() string {
	return fmt.Sprintf(`checkpoint: { interval: 500ms }
kafka:
  sasl: { mechanism: scram-sha-256, username: %s, password_file: %q }
outbox: { on_poison: dead_letter, dead_letter: { topic: %s }, retention: 20s }
postgres: { password_file: %q }
timeouts: { broker: 4s, drain: %s }
`, kafkaUser, s.secret("kafka"), deadLetters, s.secret("postgres"), drain)
}

// outrider runs one of the relay's commands, as the database's owner.
func (s *stage) outrider(ctx context.Context, args ...string) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	args = append(args, "--name", relayName, "--postgres", s.database.url(), "--kafka", s.cluster.Brokers()[0])
	cmd := exec.CommandContext(ctx, s.plan.RelayBinary, args...)
	cmd.Dir = s.dir // where no settings are
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // it is one of ours
	}
	return u.Host
}

func (s *stage) secret(of string) string { return filepath.Join(s.dir, of) }

// nextSecret is another password for the relays. Who sets it at a server has to tell them as well.
func (s *stage) nextSecret() string {
	s.secrets++
	return fmt.Sprintf("secret-%d-%d", s.plan.Seed, s.secrets)
}

// unfit says that a server is about to be other than the relays' settings say, and the result that it fits again.
func (s *stage) unfit() (fit func()) {
	s.misfits.Add(1)
	return func() {
		s.fitAt.Store(time.Now().UnixNano())
		s.misfits.Add(-1)
	}
}

// misfit says whether one is, or was a moment ago: a relay that starts then may say so, and end.
func (s *stage) misfit() bool {
	const moment = 5 * time.Second
	return s.misfits.Load() > 0 || time.Since(time.Unix(0, s.fitAt.Load())) < moment
}

// tell replaces a secret's file at once, as whoever renews a secret should.
func (s *stage) tell(of, secret string) error {
	next := s.secret(of) + ".next"
	if err := os.WriteFile(next, []byte(secret+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(next, s.secret(of))
}

// close ends everything and leaves nothing behind.
func (s *stage) close() (err error) {
	for _, seat := range s.seats {
		seat.close()
	}
	if s.database != nil {
		err = errors.Join(err, s.database.close())
	}
	if s.cluster != nil {
		err = errors.Join(err, s.cluster.close())
	}
	return errors.Join(err, harness.RemoveBuild(), os.RemoveAll(s.dir))
}

// say tells whoever waits what is being done.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "torture: %s %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// await waits until check returns nil, and gives what it said last when that takes longer than patience.
func await(ctx context.Context, patience time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		if pause(ctx, 50*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("not within %s: %w", patience, err)
		}
	}
}
