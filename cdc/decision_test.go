package cdc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/decoder"
)

// stageSink is a sink that does what a test wants, and else takes everything at once.
type stageSink struct {
	start  func(context.Context) error
	append func(*decoder.Event) error
	drain  func(context.Context) error
}

func (s *stageSink) Start(ctx context.Context) error {
	if s.start != nil {
		return s.start(ctx)
	}
	return nil
}

func (s *stageSink) Append(e *decoder.Event, _ uint64) (bool, error) {
	if s.append != nil {
		return false, s.append(e)
	}
	return false, nil
}

func (s *stageSink) Drain(ctx context.Context) error {
	if s.drain != nil {
		return s.drain(ctx)
	}
	return nil
}

func (s *stageSink) ClusterID() string                     { return "here" }
func (s *stageSink) Run(ctx context.Context) error         { <-ctx.Done(); return ctx.Err() }
func (s *stageSink) Begin()                                {}
func (s *stageSink) End()                                  {}
func (s *stageSink) Passed(decoder.Position, uint64) error { return nil }
func (s *stageSink) Met() bool                             { return true }
func (s *stageSink) Stored(uint64)                         {}
func (s *stageSink) Oldest() uint64                        { return 1<<64 - 1 }
func (s *stageSink) InFlight() (records int, bytes int64)  { return 0, 0 }
func (s *stageSink) Trouble() string                       { return "" }

// stageRelay is a relay of its own database, between Postgres and sinks that a test makes.
func stageRelay(t *testing.T, pg *Postgres, sink func(*Ledger) Sink) *Relay {
	t.Helper()
	pg.Tables = []string{"public.outbox"}
	return New(Config{
		Name: "orders", Instance: t.Name(), Delivery: "at-least-once", Postgres: *pg, CheckpointInterval: 50 * time.Millisecond, Drain: time.Minute,
		NewSink: func(l *Ledger) (Sink, error) { return sink(l), nil }, Log: zerolog.Nop(),
	})
}

const stageTable = `create table outbox (id uuid primary key default gen_random_uuid(), aggregate_type text, aggregate_id text, event_type text, payload jsonb, created_at timestamptz default now())`

// inBackground runs a relay until the test, or stop, ends it.
func inBackground(t *testing.T, r *Relay) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	ended := false
	stop = func() (err error) {
		if !ended {
			ended = true
			cancel()
			err = <-done
		}
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// await waits until a relay is in a state.
func await(t *testing.T, r *Relay, state State) Status {
	t.Helper()
	for began := time.Now(); ; {
		st := r.Status()
		if st.State == state {
			return st
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("it is %s (%s), not %s", st.State, st.Reason, state)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// rowOf is the relay's row.
func rowOf(t *testing.T, pg *Postgres) checkpoint.Row {
	t.Helper()
	row, known, err := checkpoint.Read(t.Context(), control(t, pg), "orders")
	if err != nil || !known {
		t.Fatalf("known %v, %v", known, err)
	}
	return row
}

// A decision that waits, for Kafka or for a dead letter's topic, is no reason to wait with another one.
func TestDecisionThatWaitsIsReplacedWithoutARestart(t *testing.T) {
	pg := database(t, stageTable)
	const at = "1:FF/0:0"
	first := stageRelay(t, pg, func(*Ledger) Sink { return &stageSink{} })
	stop := inBackground(t, first)
	await(t, first, Relaying)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	run(t, control(t, pg), `update outrider.checkpoint set
		verdict = '{"id": "7-1", "case": "poison", "options": ["dead-letter", "skip"], "positions": ["`+at+`"]}',
		decision = '{"verdict": "7-1", "action": "dead-letter", "position": "`+at+`", "by": "you", "at": "2026-01-02T03:04:05Z"}'`)

	var away atomic.Bool // Kafka
	away.Store(true)
	sessions := make(chan string, 10)
	relay := stageRelay(t, pg, func(l *Ledger) Sink {
		var decided []string
		for position, deadLetter := range l.Decided {
			decided = append(decided, fmt.Sprint(position, " ", deadLetter))
		}
		sessions <- strings.Join(decided, ", ")
		return &stageSink{start: func(ctx context.Context) error {
			if away.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
	})
	inBackground(t, relay)
	expect := func(step, want string) {
		t.Helper()
		select {
		case got := <-sessions:
			if got != want {
				t.Fatalf("%s: a session begins with %q, not %q", step, got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: no session begins", step)
		}
	}
	decide := func(action checkpoint.Action) {
		t.Helper()
		row := rowOf(t, pg)
		d := &checkpoint.Decision{Action: action, Position: at, By: "me", At: time.Now()}
		var refused *Refused
		if _, err := Resolve(t.Context(), control(t, pg), &relay.cfg, &row, d, false); !errors.As(err, &refused) || !strings.HasSuffix(refused.Instead, string(action)+" "+at+" --replace") {
			t.Fatalf("%s unasked: %v", action, err)
		}
		if before, err := Resolve(t.Context(), control(t, pg), &relay.cfg, &row, d, true); err != nil || before == nil {
			t.Fatalf("%s: in place of %v, %v", action, before, err)
		}
	}
	expect("at first", at+" true")
	away.Store(false)
	decide(checkpoint.SkipEvent)
	expect("decided otherwise while Kafka is away", at+" false")
	await(t, relay, Relaying)
	if row := rowOf(t, pg); row.Decision != nil {
		t.Errorf("%s is not settled", row.Decision)
	}
	if kept, _, _, err := checkpoint.ReadKept(t.Context(), control(t, pg), "orders"); err != nil || kept.Why != "skip "+at+", decided by me" {
		t.Errorf("%+v is kept, and not the row that is skipped: %v", kept, err)
	}
	decide(checkpoint.DeadLetterEvent)
	expect("decided otherwise while the event is waited for", at+" true")
	await(t, relay, Relaying)
	if st := relay.Status(); len(st.Errors) > 0 {
		t.Errorf("a change of mind is no error: %+v", st.Errors)
	}
}

// Until everything before an event that cannot be delivered is, as long as Kafka takes, a person can see and decide.
func TestVerdictIsToldBeforeWhatCameBeforeIsDelivered(t *testing.T) {
	pg := database(t, stageTable)
	draining, delivered := make(chan struct{}), make(chan struct{})
	relay := stageRelay(t, pg, func(*Ledger) Sink {
		return &stageSink{
			append: func(*decoder.Event) error { return judgedError{"poison"} },
			drain: func(ctx context.Context) error {
				close(draining)
				select {
				case <-delivered:
				case <-ctx.Done():
				}
				return nil
			},
		}
	})
	inBackground(t, relay)
	await(t, relay, Relaying)
	conn := control(t, pg)
	run(t, conn, `insert into outbox (aggregate_type) values ('order')`)
	st := await(t, relay, Halted)
	<-draining
	if st.Verdict == nil || st.Verdict.Case != "poison" || len(st.Errors) != 1 {
		t.Errorf("verdict %+v, errors %+v", st.Verdict, st.Errors)
	}
	row := rowOf(t, pg)
	v, _, err := row.Pending()
	if err != nil || v == nil || v.Case != "poison" {
		t.Fatalf("the row holds %s, %v", row.Verdict, err)
	}
	// The saver goes on, and neither hides nor settles it.
	run(t, conn, `select pg_logical_emit_message(false, 'x', repeat(' ', 2 << 20))`)
	time.AfterFunc(2*watchInterval, func() { close(delivered) })
	<-delivered
	for began := time.Now(); relay.Status().Sessions["blocked"] == 0; {
		if time.Since(began) > 30*time.Second {
			t.Fatal("the session does not end")
		}
		<-time.After(5 * time.Millisecond)
	}
	row = rowOf(t, pg)
	if after, _, err := row.Pending(); err != nil || after == nil || after.ID != v.ID {
		t.Errorf("the row holds %+v, not the verdict as it was told: %v", after, err)
	}
	if st := relay.Status(); st.State != Halted || len(st.Errors) != 1 || st.Errors[0].Times != 1 {
		t.Errorf("it is %s, and was told of %+v", st.State, st.Errors)
	}
}

// Somebody has mended the cause and started the relay, before the database could be reached.
func TestRestartLooksAnewHoweverLongTheDatabaseIsAway(t *testing.T) {
	pg := database(t, stageTable)
	first := stageRelay(t, pg, func(*Ledger) Sink { return &stageSink{} })
	stop := inBackground(t, first)
	await(t, first, Relaying)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	run(t, control(t, pg), `update outrider.checkpoint set verdict = '{"id": "7-1", "case": "poison", "options": ["skip"], "positions": ["1:FF/0:0"], "instance": "another"}'`)
	dials := 0
	pg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials++; dials == 1 {
			return nil, errors.New("no route to host")
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	relay := stageRelay(t, pg, func(*Ledger) Sink { return &stageSink{} })
	inBackground(t, relay)
	await(t, relay, Relaying)
	if row := rowOf(t, pg); row.Verdict != nil || dials < 2 {
		t.Errorf("%s still stands, after %d dials", row.Verdict, dials)
	}
}

// letterError is a sink's about one event.
type letterError struct{ at string }

func (e letterError) Error() string { return "poison at " + e.at }
func (e letterError) At() string    { return e.at }
func (e letterError) Blocked() (verdict, reason, advice string, options []string) {
	return "poison", e.Error(), "", []string{"skip"}
}

// A dead letter that its own topic does not take has nowhere to go; whoever leaves the event out then is heard without a restart.
func TestEventWhoseDeadLetterIsRefusedCanBeLeftOut(t *testing.T) {
	pg := database(t, stageTable)
	relay := stageRelay(t, pg, func(l *Ledger) Sink {
		deadLetter, skipped := 0, 0
		for _, letter := range l.Decided {
			if deadLetter++; !letter {
				deadLetter, skipped = deadLetter-1, skipped+1
			}
		}
		return &stageSink{append: func(e *decoder.Event) error {
			if skipped == 1 && deadLetter == 0 {
				return nil
			}
			return letterError{e.Position.String()}
		}}
	})
	inBackground(t, relay)
	await(t, relay, Relaying)
	conn := control(t, pg)
	run(t, conn, `insert into outbox (aggregate_type) values ('order')`)
	decide := func(action checkpoint.Action) {
		t.Helper()
		at := await(t, relay, Halted).Verdict.Positions[0]
		row := rowOf(t, pg)
		if _, err := Resolve(t.Context(), conn, &relay.cfg, &row, &checkpoint.Decision{Action: action, Position: at, By: "me", At: time.Now()}, false); err != nil {
			t.Fatal(err)
		}
	}
	at := await(t, relay, Halted).Verdict.Positions[0]
	// As a person decided about the same event before.
	run(t, conn, `update outrider.checkpoint set verdict = verdict || jsonb_build_object('events', jsonb_build_array(jsonb_build_object(
		'verdict', '0', 'action', 'dead-letter', 'position', $1::text, 'by', 'you', 'at', '2026-01-02T03:04:05Z')))`, at)
	decide(checkpoint.SkipEvent)
	await(t, relay, Relaying)
}
