package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/outrider-relay/outrider/test/failpoint"
	"github.com/outrider-relay/outrider/test/harness"
)

// The checker is checked: a relay is built that has one bug at a time, and each must be found. A run that finds nothing is
// worth no more than that.

// controlLasts is for how long the relay without a bug is tortured with all that shows the bugs.
const controlLasts = 90 * time.Second

// selfTest plants one bug after another, tells what was found on out, and gives how many bugs were not. Where names are
// given, those alone are planted, and there is no control.
func selfTest(ctx context.Context, seed uint64, names []string, out io.Writer) (escaped int, err error) {
	dir, err := os.MkdirTemp("", "outrider-torture-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary, err := harness.BuildWith(dir, "failpoint")
	if err != nil {
		return 0, err
	}
	chosen := plants
	if len(names) > 0 {
		chosen = slices.DeleteFunc(slices.Clone(plants), func(p plant) bool { return !slices.Contains(names, p.bug) })
	}
	base := Plan{Seed: seed, RelayBinary: binary, StopAtFirst: true, BetweenBrokers: true}
	for _, p := range chosen {
		say("planted: %s", p.bug)
		found, err := p.try(ctx, base, out)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.bug, err)
		}
		if !found {
			escaped++
		}
	}
	if len(names) == 0 {
		err = control(ctx, base, out)
	}
	_, printErr := fmt.Fprintf(out, "\n%d of %d planted bugs caught\n", len(chosen)-escaped, len(chosen))
	return escaped, errors.Join(err, printErr)
}

// try runs a relay with the bug, and says whether that was found.
func (p *plant) try(ctx context.Context, base Plan, out io.Writer) (found bool, err error) {
	plan := base
	plan.For, plan.Rate, plan.Faults, plan.InTurn = p.lasts, p.rate, p.faults, true
	plan.RelayEnv = append(slices.Clone(p.env), failpoint.Plant+"="+p.bug)
	report, err := run(ctx, plan)
	if err != nil {
		return false, err
	}
	mix := fmt.Sprintf("%s; %d rows/s; seed %d", strings.Join(p.faults, ", "), p.rate, plan.Seed)
	at := slices.IndexFunc(report.Violations, func(v Violation) bool { return slices.Contains(p.shows, v.Kind) })
	switch {
	case at >= 0:
		v := report.Violations[at]
		_, err = fmt.Fprintf(out, "\ncaught   %s\n         %s; after %.1f s\n%s: %s\n", p.bug, mix, v.After.Seconds(), v.Kind, v.Text)
	case len(report.Violations) > 0:
		v := report.Violations[0]
		_, err = fmt.Fprintf(out, "\nESCAPED  %s\n         %s; what was found is of another kind\n%s: %s\n", p.bug, mix, v.Kind, v.Text)
	default:
		_, err = fmt.Fprintf(out, "\nESCAPED  %s\n         %s; nothing in %s\n", p.bug, mix, p.lasts)
	}
	return at >= 0, err
}

// errControl is that of a relay without a bug in which one was found.
var errControl = errors.New("the relay without a planted bug has violated something")

// control runs the relay without a bug where all the bugs were found.
func control(ctx context.Context, base Plan, out io.Writer) error {
	say("planted: nothing")
	plan := base
	plan.For, plan.Rate, plan.InTurn, plan.RelayEnv = controlLasts, 500, true, []string{smallBatches}
	for _, p := range plants {
		plan.Faults = append(plan.Faults, p.faults...)
	}
	report, err := run(ctx, plan)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "\nwithout a planted bug:\n%s", report); err != nil {
		return err
	}
	if len(report.Violations) > 0 {
		return errControl
	}
	return nil
}
