package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
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
	Options []Action `json:"options"`
	// Positions are the events that it is about, as far as they are known: the one that cannot be delivered, or those that only
	// Kafka has. Of a long list More are left out. An older version wrote none.
	Positions []string `json:"positions,omitempty"`
	More      int      `json:"more,omitempty"`
	// LSN is where RestartAt is advised to go on; empty where it is no option.
	LSN      string    `json:"lsn,omitempty"`
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

// String is the decision as an operator writes it, without the dashes.
func (d *Decision) String() string {
	return strings.TrimSpace(string(d.Action) + " " + d.LSN + d.Position) // no action has both
}

// ErrDecided says that what a row holds about a verdict is not what was read any more, since a person has decided, or a relay
// has judged anew; and that nothing was written.
var ErrDecided = errors.New("somebody has decided or judged anew meanwhile")

// Standing is what a row holds about a verdict: the verdict, and what was decided about it; nil for what there is not. Whoever
// writes either brings along what was read before, so that nobody's word is overwritten unseen.
type Standing struct{ Verdict, Decision json.RawMessage }

// Standing is that of the row.
func (r *Row) Standing() Standing { return Standing{r.Verdict, r.Decision} }

// Equal says whether both say the same: the server spells JSON otherwise than this program.
func (s Standing) Equal(other Standing) bool {
	return sameJSON(s.Verdict, other.Verdict) && sameJSON(s.Decision, other.Decision)
}

func sameJSON(a, b json.RawMessage) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// Pending gives the verdict that stands in the row, and the decision about it; nil for what there is not.
func (r *Row) Pending() (*Verdict, *Decision, error) {
	v, err := r.verdict()
	if err != nil || v.Case == "" {
		return nil, nil, err
	}
	if r.Decision == nil {
		return v, nil, nil
	}
	var d Decision
	if err := json.Unmarshal(r.Decision, &d); err != nil {
		return nil, nil, fmt.Errorf("read the decision about %s: %w", r.Name, err)
	}
	if d.Verdict != v.ID {
		return v, nil, nil // it was about another one
	}
	return v, &d, nil
}

// Events gives the decisions about single events that hold until these have been passed.
func (r *Row) Events() ([]Decision, error) {
	v, err := r.verdict()
	return v.Events, err
}

// verdict reads what the row holds, which is an empty one where there is none.
func (r *Row) verdict() (*Verdict, error) {
	v := &Verdict{}
	if r.Verdict == nil {
		return v, nil
	}
	if err := json.Unmarshal(r.Verdict, v); err != nil {
		return v, fmt.Errorf("read the verdict on %s: %w", r.Name, err)
	}
	return v, nil
}

const judgeSQL = `update outrider.checkpoint set verdict = $3, decision = null, updated_at = clock_timestamp()
	where name = $1 and generation = $2 and verdict is not distinct from $4 and decision is not distinct from $5`

// Judge writes a verdict into a row whose generation is still the given one, in place of what stood there, and gives what stands
// there now. It needs no claim: a relay that cannot take its slot any more has to say why. It fails with ErrSuperseded where
// somebody else has taken the row meanwhile, and with ErrDecided where a person has decided.
func Judge(ctx context.Context, conn *pgx.Conn, name string, generation int64, stood Standing, v Verdict) (Standing, error) {
	now, err := judge(ctx, conn, name, generation, stood, &v)
	if err != nil {
		return stood, fmt.Errorf("record a verdict on %s: %w", name, err)
	}
	return now, nil
}

func judge(ctx context.Context, conn *pgx.Conn, name string, generation int64, stood Standing, v *Verdict) (now Standing, err error) {
	if v != nil {
		if now.Verdict, err = json.Marshal(v); err != nil {
			return stood, err
		}
	}
	tag, err := conn.Exec(ctx, judgeSQL, name, generation, now.Verdict, stood.Verdict, stood.Decision)
	if err != nil || tag.RowsAffected() > 0 {
		return now, err
	}
	row, known, err := Read(ctx, conn, name)
	switch {
	case err != nil:
		return stood, err
	case known && row.Generation == generation:
		return stood, ErrDecided
	}
	return stood, ErrSuperseded
}

// Settle removes verdict and decision: the relay has taken the decision, or what the verdict was about is no more. What was
// decided about events that have not been passed is kept. It gives what stands in the row now, and fails as Judge does.
func (s *Store) Settle(ctx context.Context, stood Standing, events []Decision) (Standing, error) {
	var left *Verdict
	if len(events) > 0 {
		left = &Verdict{Events: events}
	}
	now, err := judge(ctx, s.conn, s.name, s.generation, stood, left)
	if err != nil {
		return stood, fmt.Errorf("settle the verdict on %s: %w", s.name, err)
	}
	return now, nil
}

const decideSQL = `update outrider.checkpoint set verdict = $2, decision = $3, updated_at = clock_timestamp()
	where name = $1 and verdict is not distinct from $4 and decision is not distinct from $5`

// Decide writes a decision: about the verdict of that ID that stands in the row; or, about an event that was decided about
// before and has not been passed, in place of that decision. It fails with ErrDecided where the row says something else by now;
// else row says what stands there now.
func Decide(ctx context.Context, conn *pgx.Conn, row *Row, d Decision) error {
	err := decide(ctx, conn, row, d)
	if err != nil {
		return fmt.Errorf("record a decision about %s: %w", row.Name, err)
	}
	return nil
}

func decide(ctx context.Context, conn *pgx.Conn, row *Row, d Decision) error {
	v, err := row.verdict()
	if err != nil {
		return err
	}
	now := row.Standing()
	if v.ID == d.Verdict && v.Case != "" {
		now.Decision, err = json.Marshal(d)
	} else if i := slices.IndexFunc(v.Events, func(e Decision) bool { return e.Position == d.Position }); i >= 0 {
		v.Events[i] = d
		now.Verdict, err = json.Marshal(v)
	} else {
		err = ErrDecided
	}
	if err != nil {
		return err
	}
	tag, err := conn.Exec(ctx, decideSQL, row.Name, now.Verdict, now.Decision, row.Verdict, row.Decision)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrDecided
	}
	if err == nil {
		row.Verdict, row.Decision = now.Verdict, now.Decision
	}
	return err
}
