package cdc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/checkpoint"
)

// Refused is a decision that was not taken down, since the relay could do nothing with it: why, and what would do instead.
type Refused struct{ Reason, Instead string }

func (r *Refused) Error() string { return r.Reason + ": " + r.Instead }

// Resolve takes down what a person decided about the relay whose row is given: bound to the verdict that stands there, or about a
// single event in place of what was decided about that before, as long as it has not been passed. What was decided before, and not
// done yet, is given back; it is replaced only where that is asked for, since it may be another person's word. A decision that
// the relay could do nothing with is a *Refused, and a row that has changed meanwhile checkpoint.ErrDecided.
func Resolve(ctx context.Context, conn *pgx.Conn, cfg *Config, row *checkpoint.Row, d *checkpoint.Decision, replace bool) (before *checkpoint.Decision, err error) {
	verdict, before, err := row.Pending()
	if err != nil {
		return nil, err
	}
	events, err := row.Events()
	if err != nil {
		return nil, err
	}
	r := &resolution{ctx, conn, cfg, verdict, d}
	// A dead letter that its own topic does not take is blocked on again, and that is what is decided about then.
	asked := verdict != nil && slices.Contains(verdict.Positions, d.Position)
	if i := slices.IndexFunc(events, func(e checkpoint.Decision) bool { return e.Position == d.Position }); i >= 0 && !asked {
		before, d.Verdict = &events[i], events[i].Verdict
	} else if err := r.fits(); err != nil {
		return nil, err
	} else {
		d.Verdict = verdict.ID
	}
	switch {
	case before == nil:
	case before.Action == d.Action && before.LSN == d.LSN && before.Position == d.Position:
		*d = *before
		return nil, nil // it is said twice
	case !replace:
		return nil, &Refused{
			fmt.Sprintf("%s was decided by %s at %s, and has not been done yet; to decide otherwise", before, before.By, before.At.Format(timeFormat)),
			r.command("--" + d.String() + " --replace"),
		}
	}
	return before, checkpoint.Decide(ctx, conn, row, *d)
}

// timeFormat is how operators are told the time.
const timeFormat = "2006-01-02T15:04:05Z07:00"

// resolution is a decision on its way into the row.
type resolution struct {
	ctx     context.Context
	conn    *pgx.Conn
	cfg     *Config
	verdict *checkpoint.Verdict // nil: none stands
	d       *checkpoint.Decision
}

func (r *resolution) command(flags string) string {
	return "outrider resolve --name " + r.cfg.Name + " " + flags
}

// fits refuses a decision that does not answer the verdict, or that the database as it is now makes impossible.
func (r *resolution) fits() error {
	v, d := r.verdict, r.d
	switch {
	case v == nil && d.Position != "":
		return &Refused{"relay " + r.cfg.Name + " is not blocked, and nothing was decided about the event at " + d.Position, "see outrider status --name " + r.cfg.Name}
	case v == nil:
		return &Refused{"relay " + r.cfg.Name + " is not blocked, and there is nothing to decide", "see outrider status --name " + r.cfg.Name}
	case !slices.Contains(v.Options, d.Action):
		return &Refused{fmt.Sprintf("--%s does not answer the verdict %q of relay %s; what does", d.Action, v.Case, r.cfg.Name), r.options()}
	case d.Position != "" && len(v.Positions) > 0 && v.Positions[0] != d.Position:
		return &Refused{fmt.Sprintf("the event that blocks relay %s is at %s, not at %s", r.cfg.Name, v.Positions[0], d.Position), r.command("--" + string(d.Action) + " " + v.Positions[0])}
	}
	switch d.Action {
	case checkpoint.AcceptLoss, checkpoint.AcceptNewCluster, checkpoint.RestartAt:
		return r.fitsSlot()
	}
	return nil
}

// options are the commands that answer the verdict.
func (r *resolution) options() string {
	commands := make([]string, len(r.verdict.Options))
	for i, action := range r.verdict.Options {
		option := checkpoint.Decision{Action: action}
		switch action {
		case checkpoint.RestartAt:
			option.LSN = r.verdict.LSN
		case checkpoint.SkipEvent, checkpoint.DeadLetterEvent:
			option.Position = strings.Join(r.verdict.Positions, " ")
		}
		commands[i] = r.command("--" + option.String())
	}
	return strings.Join(commands, ", or ")
}

// fitsSlot compares a decision about where to go on with the slot, from which alone it can be done.
func (r *resolution) fitsSlot() error {
	slot, err := readSlot(r.ctx, r.conn, r.cfg.Postgres.Slot)
	if err != nil {
		return err
	}
	end, err := readWALEnd(r.ctx, r.conn)
	if err != nil {
		return err
	}
	name := "slot " + r.cfg.Postgres.Slot
	switch lost := slot != nil && slot.lost() != ""; {
	case r.d.Action == checkpoint.RestartAt && (slot == nil || lost):
		return &Refused{name + " is gone by now, and with it the WAL to restart in; the relay judges that anew when it is restarted", "outrider run"}
	case lost:
		return &Refused{
			name + " is still there, though it can never be read again (" + slot.lost() + "), and the relay makes no other one beside it. Drop it first, then decide again",
			"select pg_drop_replication_slot(" + quoteLiteral(r.cfg.Postgres.Slot) + ")",
		}
	case r.d.Action != checkpoint.RestartAt:
		return nil
	}
	to, err := pglogrepl.ParseLSN(r.d.LSN)
	if err != nil {
		return err
	}
	if to >= slot.Confirmed && to <= end {
		return nil
	}
	instead := end
	if advised, err := pglogrepl.ParseLSN(r.verdict.LSN); err == nil && advised >= slot.Confirmed && advised <= end {
		instead = advised
	}
	return &Refused{fmt.Sprintf("%s streams from %s to the present end of the WAL at %s, and %s does not lie between", name, slot.Confirmed, end, to), r.command("--restart-at " + instead.String())}
}
