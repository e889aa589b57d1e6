package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Verdict is why a relay is blocked, as it stands in its row for whoever has to decide.
type Verdict struct {
	// ID ties a decision to this verdict.
	ID string `json:"id"`
	// Case names it in a word or two: gap, diverged, other cluster, tail incomplete, kafka lost data, name in use, poison.
	Case   string `json:"case"`
	Reason string `json:"reason"`
	Advice string `json:"advice"`
	// Options are the actions that a decision may name.
	Options  []Action  `json:"options"`
	Instance string    `json:"instance"` // the process that was blocked
	At       time.Time `json:"at"`
	// Events are decisions about single events that were taken, and hold until these have been passed: one transaction may hold
	// several events that cannot be delivered, and no checkpoint lies between them. They outlast the verdict: Case is empty then.
	Events []Decision `json:"events,omitempty"`
}

// Action is what a person may decide.
type Action string

const (
	AcceptLoss       Action = "accept-loss"        // go on behind what can no longer be relayed, or was lost
	AcceptRepeats    Action = "accept-repeats"     // publish again what may have been published
	AcceptNewCluster Action = "accept-new-cluster" // go on with another database or Kafka cluster
	RestartAt        Action = "restart-at"         // go on at Decision.LSN
	SkipEvent        Action = "skip"               // leave out the event at Decision.Position
	DeadLetterEvent  Action = "dead-letter"        // send the event at Decision.Position to the dead-letter topic
)

// Decision is what a person decided about a verdict. The relay takes it once.
type Decision struct {
	Verdict  string    `json:"verdict"` // its ID
	Action   Action    `json:"action"`
	LSN      string    `json:"lsn,omitempty"`
	Position string    `json:"position,omitempty"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

// ErrNoVerdict says that a decision is about a verdict that does not stand, or does not stand any more.
var ErrNoVerdict = errors.New("there is no such verdict to decide about")

// Pending gives the verdict that stands in the row, and the decision about it; nil for what there is not.
func (r *Row) Pending() (*Verdict, *Decision, error) {
	if r.Verdict == nil {
		return nil, nil, nil
	}
	var v Verdict
	if err := json.Unmarshal(r.Verdict, &v); err != nil {
		return nil, nil, fmt.Errorf("read the verdict on %s: %w", r.Name, err)
	}
	if v.Case == "" {
		return nil, nil, nil
	}
	if r.Decision == nil {
		return &v, nil, nil
	}
	var d Decision
	if err := json.Unmarshal(r.Decision, &d); err != nil {
		return nil, nil, fmt.Errorf("read the decision about %s: %w", r.Name, err)
	}
	if d.Verdict != v.ID {
		return &v, nil, nil // it was about another one
	}
	return &v, &d, nil
}

// Events gives the decisions about single events that hold until these have been passed.
func (r *Row) Events() ([]Decision, error) {
	var v Verdict
	if r.Verdict == nil {
		return nil, nil
	}
	if err := json.Unmarshal(r.Verdict, &v); err != nil {
		return nil, fmt.Errorf("read the verdict on %s: %w", r.Name, err)
	}
	return v.Events, nil
}

const judgeSQL = `update outrider.checkpoint set verdict = $3, decision = null, updated_at = clock_timestamp()
	where name = $1 and generation = $2`

// Judge writes a verdict into a row whose generation is still the given one. It needs no claim: a relay that cannot take its
// slot any more has to say why. A row that somebody else has taken meanwhile is left alone.
func Judge(ctx context.Context, conn *pgx.Conn, name string, generation int64, v Verdict) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("record a verdict on %s: %w", name, err)
	}
	tag, err := conn.Exec(ctx, judgeSQL, name, generation, b)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrSuperseded
	}
	if err != nil {
		return fmt.Errorf("record a verdict on %s: %w", name, err)
	}
	return nil
}

const decideSQL = `update outrider.checkpoint set decision = $3, updated_at = clock_timestamp()
	where name = $1 and verdict ->> 'id' = $2`

// Decide writes a decision, bound to the verdict that it names.
func Decide(ctx context.Context, conn *pgx.Conn, name string, d Decision) error {
	b, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("record a decision about %s: %w", name, err)
	}
	tag, err := conn.Exec(ctx, decideSQL, name, d.Verdict, b)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNoVerdict
	}
	if err != nil {
		return fmt.Errorf("record a decision about %s: %w", name, err)
	}
	return nil
}

// Settle removes verdict and decision: the relay has taken the decision, or what the verdict was about is no more. What was
// decided about events that have not been passed is kept.
func (s *Store) Settle(ctx context.Context, events []Decision) error {
	if len(events) == 0 {
		return s.SetVerdict(ctx, nil)
	}
	b, err := json.Marshal(Verdict{Events: events})
	if err != nil {
		return fmt.Errorf("keep the decisions about %s: %w", s.name, err)
	}
	return s.SetVerdict(ctx, b)
}
