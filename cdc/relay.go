package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outrider-relay/outrider/checkpoint"
)

// Relay follows one outbox and delivers it, session after session, until it is stopped.
type Relay struct {
	cfg Config

	looked    bool // a session has come so far that a verdict which stands now was this one's too; Run's, like the next two
	fences    int  // by which another producer took this relay's place though nobody took its slot, in a row
	lastFence time.Time
	session   atomic.Pointer[session] // the one that has a sink, if any; written by runSession, read by Status
	skipped   atomic.Int64            // events below the checkpoint that Postgres sent again
	beats     beats
	lag       lagClock

	mu        sync.Mutex
	state     State
	reason    string
	since     time.Time
	errors    []ErrorStatus    // the last errorsKept, the newest first
	verdict   *VerdictStatus   // the last one
	ends      map[string]int64 // ended sessions by how they ended
	ignored   IgnoredStatus
	server    PostgresStatus
	serverEnd lsn       // end of WAL as last seen
	positions positions // of the last session, while there is none
	everRan   bool      // a session has streamed: what is wrong with the settings now was right once
}

// Blocked is the end of a session that only a person can judge. The slot is released, nothing goes on by itself.
type Blocked struct {
	// Verdict names the case in a word or two: "gap", "diverged", "other cluster", "poison".
	Verdict string
	// Reason says what was seen; Advice what to do.
	Reason, Advice string
	// Options are the actions among which a person may choose.
	Options []checkpoint.Action
	// Positions are the events that it is about, as far as they are known; More of them are left out.
	Positions []string
	More      int
	// LSN is where the advice is to restart; empty where that is no option.
	LSN string
	// Err is the error behind it, if there is one.
	Err error

	told bool // in log and status, while the session went on
}

func (b *Blocked) Error() string {
	return fmt.Sprintf("blocked (%s): %s. %s", b.Verdict, b.Reason, b.Advice)
}

func (b *Blocked) Unwrap() error { return b.Err }

var (
	// ErrDrain is returned by Run when what was in flight at a stop was not delivered and stored within Config.Drain. The next start
	// goes on with it.
	ErrDrain = errors.New("stopped before everything in flight was delivered and stored; the next start goes on with it")
	// ErrInvariant is a broken promise of the relay's own: a bug. It never goes on after one.
	ErrInvariant = errors.New("invariant broken")
)

// preflightError is a setting of the database or the relay that trying again does not mend.
type preflightError struct{ err error }

func (e *preflightError) Error() string   { return e.err.Error() }
func (e *preflightError) Unwrap() error   { return e.err }
func (e *preflightError) Permanent() bool { return true }

// IsPreflight says whether err is about what Run found in Postgres before it could stream.
func IsPreflight(err error) bool {
	var p *preflightError
	return errors.As(err, &p)
}

// New makes a relay. Nothing is started or dialled.
func New(cfg Config) *Relay {
	if cfg.CheckpointInterval == 0 {
		cfg.CheckpointInterval = time.Second
	}
	if cfg.Drain == 0 {
		cfg.Drain = 30 * time.Second
	}
	r := &Relay{cfg: cfg, state: Starting, since: time.Now(), ends: make(map[string]int64)}
	r.lag.restart(r.since)
	return r
}

// Run relays until ctx ends, then drains. It returns nil after a clean stop, ErrDrain after one that was not, a *Blocked
// error where Config.ExitOnBlocked asks for it, and otherwise only errors that trying again does not cure: settings that
// were wrong from the start, or ErrInvariant. Everything else it tries again, for ever, from the stored checkpoint.
func (r *Relay) Run(ctx context.Context) error {
	defer r.beats.done("run")
	retry := newRetry()
	for {
		r.beats.beat("run")
		began := time.Now()
		err := r.runSession(ctx)
		r.beats.beat("run") // the pause before the next one, or for a person's decision, is no standstill
		if done, err := r.ended(ctx, err); done {
			return err
		}
		if time.Since(began) > time.Minute || errors.Is(err, errStandby) || errors.Is(err, errUndecided) || errors.Is(err, errRedecided) {
			retry.Reset()
		}
		r.sleep(ctx, retry.NextBackOff())
		if ctx.Err() != nil {
			return nil
		}
	}
}

// decisionPoll is how often a blocked relay looks whether somebody has decided.
const decisionPoll = 2 * time.Second

func newRetry() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 30 * time.Second,
	}
}

// ended decides what follows a session that ended with err: done and what Run returns, or another session.
func (r *Relay) ended(ctx context.Context, err error) (done bool, _ error) {
	r.count(ctx, err)
	var blocked *Blocked
	var permanent interface{ Permanent() bool }
	switch {
	case errors.Is(err, ErrInvariant), errors.Is(err, ErrDrain):
		return true, err
	case ctx.Err() != nil && err != nil && r.draining():
		return true, fmt.Errorf("%w: %w", ErrDrain, err)
	case ctx.Err() != nil:
		return true, nil
	case errors.As(err, &blocked):
		r.halt(blocked)
		if r.cfg.ExitOnBlocked {
			return true, err
		}
		r.sleep(ctx, decisionPoll)
		return ctx.Err() != nil, nil
	case errors.As(err, &permanent) && permanent.Permanent() && !r.hasRun():
		return true, err
	case err == nil, errors.Is(err, errStandby), errors.Is(err, errRedecided):
		return false, nil
	}
	if repeated := r.note(classOf(err), err); !repeated {
		r.cfg.Log.Warn().Err(err).Msg("session ended; the next one starts from the checkpoint, and is tried until it succeeds")
	}
	r.setState(Degraded, err.Error())
	return false, nil
}

// count books the way a session ended.
func (r *Relay) count(ctx context.Context, err error) {
	end := "stopped"
	switch {
	case errors.Is(err, errUndecided):
		return // a look at the row, every decisionPoll
	case errors.Is(err, errStandby):
		end = "standby"
	case errors.Is(err, errRedecided): // by a person, as one that was asked to stop
	case err != nil && ctx.Err() == nil:
		end = classOf(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends[end]++
}

// classOf names the side that an error came from.
func classOf(err error) string {
	var blocked *Blocked
	var sink *sinkError
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &blocked):
		return "blocked"
	case errors.As(err, &pg):
		return "postgres" // also where the sink has met it, through the ledger
	case errors.As(err, &sink):
		return "kafka"
	case errors.Is(err, ErrInvariant):
		return "internal"
	}
	return "postgres"
}

// sinkError marks an error as the sink's.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// asSink marks err unless it is nil.
func asSink(err error) error {
	if err == nil {
		return nil
	}
	return &sinkError{err}
}

// draining says whether the session was about to end in order.
func (r *Relay) draining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state == Draining
}

func (r *Relay) hasRun() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.everRan
}

// errorsKept is how many errors the status holds: enough to see what came first.
const errorsKept = 10

// note keeps an error, and says whether the one before was the same and no session has streamed since.
func (r *Relay) note(class string, err error) (repeated bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	repeated = r.state == Degraded && r.reason == err.Error()
	latest := ErrorStatus{At: time.Now().UTC(), Times: 1, Class: class, Message: err.Error()}
	if len(r.errors) > 0 && r.errors[0].Class == class && r.errors[0].Message == latest.Message {
		latest.Times += r.errors[0].Times
		r.errors[0] = latest // one that comes back each half minute must not push out what led to it
		return repeated
	}
	r.errors = slices.Insert(r.errors, 0, latest)
	r.errors = r.errors[:min(len(r.errors), errorsKept)]
	return repeated
}

// halt shows what the relay is blocked on, and tells it once.
func (r *Relay) halt(b *Blocked) {
	if !b.told && !errors.Is(b, errUndecided) {
		r.note("blocked", b)
		r.cfg.Log.Error().Str("verdict", b.Verdict).Strs("positions", b.Positions).Msg(b.Error())
	}
	r.mu.Lock()
	r.verdict = &VerdictStatus{Case: b.Verdict, Reason: b.Reason, Advice: b.Advice, Options: b.Options, Positions: b.Positions, More: b.More}
	r.mu.Unlock()
	r.setState(Halted, b.Error())
}

// setState changes the state; the time of the change stays while it is the same.
func (r *Relay) setState(s State, reason string) {
	r.mu.Lock()
	changed := r.state != s
	if changed {
		r.state, r.since = s, time.Now()
	}
	r.reason = reason
	r.mu.Unlock()
	if changed {
		r.cfg.Log.Info().Str("state", string(s)).Str("reason", reason).Msg("state")
	}
}

// sleep waits for d, or until ctx ends.
func (r *Relay) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
