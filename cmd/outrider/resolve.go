package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/cmd/outrider/config"
	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink"
)

func init() { commands = append(commands, resolveCommand) }

func resolveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resolve",
		Short: "See and decide what a relay is blocked on",
		Long: `Shows the verdict that blocks a relay, and what may be decided about it. With one of
the flags below it writes that decision into the relay's row in outrider.checkpoint,
bound to this verdict, with your name and the time. The blocked relay takes it
within seconds, once, and goes on. What the relay could do nothing with is refused.

A decision that has not been done yet, since Kafka or a dead letter's topic is away, can
be replaced with --replace; the relay notices within seconds.`,
		Example: `  outrider resolve -c outrider.yaml
  outrider resolve -c outrider.yaml --accept-loss
  outrider resolve -c outrider.yaml --skip 1:0/1A2B3C8:0
  outrider resolve -c outrider.yaml --skip 1:0/1A2B3C8:0 --replace`,
		Args: cobra.NoArgs,
	}
	addFlags(cmd.Flags(), relayFlags)
	flags := cmd.Flags()
	asJSON := flags.Bool("json", false, "print the verdict, and the decision about it, as JSON")
	flags.Bool("accept-loss", false, "go on behind what can no longer be relayed, or was lost")
	flags.Bool("accept-repeats", false, "publish again what may have been published already")
	flags.Bool("accept-new-cluster", false, "go on with another database or Kafka cluster")
	flags.String("restart-at", "", "go on at `LSN`, not below the slot")
	flags.String("skip", "", "leave out the event at `POSITION`, as timeline:LSN:ordinal")
	flags.String("dead-letter", "", "send the event at `POSITION` to outbox.dead_letter.topic")
	replace := flags.Bool("replace", false, "decide otherwise than somebody has before, as long as that is not done")
	cmd.MarkFlagsMutuallyExclusive("accept-loss", "accept-repeats", "accept-new-cluster", "restart-at", "skip", "dead-letter")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, err := loadSettings(cmd, kafkaBrokers)
		if err != nil {
			return err
		}
		decision, err := decisionOf(cmd.Flags())
		if err != nil {
			return err
		}
		if decision == nil && *replace {
			return errors.New("--replace goes with a decision")
		}
		show := showVerdict
		if *asJSON {
			show = encodeVerdict
		}
		return resolve(cmd.Context(), settings, decision, *replace, show, cmd.OutOrStdout())
	}
	return cmd
}

// decisionOf reads the flags; nil when none is given.
func decisionOf(flags *pflag.FlagSet) (*checkpoint.Decision, error) {
	for _, action := range []checkpoint.Action{checkpoint.AcceptLoss, checkpoint.AcceptRepeats, checkpoint.AcceptNewCluster} {
		if yes, err := flags.GetBool(string(action)); err != nil || yes {
			return &checkpoint.Decision{Action: action}, err
		}
	}
	if at, err := flags.GetString("restart-at"); err != nil || at != "" {
		if _, err := pglogrepl.ParseLSN(at); err != nil {
			return nil, fmt.Errorf("--restart-at %s: %w", at, err)
		}
		return &checkpoint.Decision{Action: checkpoint.RestartAt, LSN: at}, err
	}
	for _, action := range []checkpoint.Action{checkpoint.SkipEvent, checkpoint.DeadLetterEvent} {
		if at, err := flags.GetString(string(action)); err != nil || at != "" {
			if _, err := decoder.ParsePosition(at); err != nil {
				return nil, fmt.Errorf("--%s %s: %w", action, at, err)
			}
			return &checkpoint.Decision{Action: action, Position: at}, err
		}
	}
	return nil, nil
}

// resolve shows the verdict, or writes a decision about it.
func resolve(ctx context.Context, settings *config.Settings, decision *checkpoint.Decision, replace bool, show shower, out io.Writer) error {
	cfg := relayConfig(settings, sink.Config{}, zerolog.Nop())
	conn, err := cdc.Connect(ctx, &cfg.Postgres)
	if err != nil {
		return &failure{code: exitPostgres, err: err}
	}
	defer func() { _ = conn.Close(ctx) }()
	row, known, err := checkpoint.Read(ctx, conn, settings.Name)
	switch {
	case err != nil:
		return &failure{code: exitPostgres, err: err}
	case !known:
		return &failure{code: exitPostgres, err: fmt.Errorf("there is no relay %s in this database: outrider.checkpoint has no row of that name", settings.Name)}
	}
	if decision == nil {
		return show(out, &row, nil)
	}
	decision.By, decision.At = whoami(), time.Now().UTC()
	before, err := cdc.Resolve(ctx, conn, &cfg, &row, decision, replace)
	var refused *cdc.Refused
	switch {
	case errors.As(err, &refused):
		return &failure{code: exitSettings, err: err}
	case errors.Is(err, checkpoint.ErrDecided):
		return &failure{code: exitPostgres, err: fmt.Errorf("%w; look again: outrider resolve --name %s", err, settings.Name)}
	case err != nil:
		return &failure{code: exitPostgres, err: err}
	}
	return show(out, &row, before)
}

// shower shows how it stands with a relay, and what was decided before; nil: nothing that would have been replaced.
type shower func(out io.Writer, row *checkpoint.Row, before *checkpoint.Decision) error

func encodeVerdict(out io.Writer, row *checkpoint.Row, before *checkpoint.Decision) error {
	verdict, decision, err := row.Pending()
	if err != nil {
		return err
	}
	events, err := row.Events()
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(struct {
		Name     string                `json:"name"`
		Verdict  *checkpoint.Verdict   `json:"verdict"`
		Decision *checkpoint.Decision  `json:"decision"`
		Events   []checkpoint.Decision `json:"events,omitempty"` // decided about one by one, and not passed yet
		Replaced *checkpoint.Decision  `json:"replaced,omitempty"`
	}{row.Name, verdict, decision, events, before})
}

func showVerdict(out io.Writer, row *checkpoint.Row, before *checkpoint.Decision) error {
	v, d, err := row.Pending()
	if err != nil {
		return err
	}
	events, err := row.Events()
	if err != nil {
		return err
	}
	var text strings.Builder
	if v == nil {
		fmt.Fprintf(&text, "relay %s is not blocked\n", row.Name)
	} else {
		options := make([]string, len(v.Options))
		for i, o := range v.Options {
			options[i] = "--" + string(o)
		}
		fmt.Fprintf(&text, "relay    %s\nblocked  %s, since %s (instance %s)\nreason   %s\n", row.Name, v.Case, v.At.Format(time.RFC3339), v.Instance, v.Reason)
		if n := len(v.Positions); n > 1 || v.More > 0 {
			fmt.Fprintf(&text, "events   %s\n", strings.Join(v.Positions, "\n         "))
		}
		if v.More > 0 {
			fmt.Fprintf(&text, "         and %d more\n", v.More)
		}
		fmt.Fprintf(&text, "to do    %s\noptions  %s\n", v.Advice, strings.Join(options, ", "))
	}
	if before != nil {
		fmt.Fprintf(&text, "instead  of %s, by %s at %s\n", before, before.By, before.At.Format(time.RFC3339))
	}
	for _, e := range events {
		fmt.Fprintf(&text, "decided  %s, by %s at %s; it holds until that event has been passed, and --replace changes it\n", &e, e.By, e.At.Format(time.RFC3339))
	}
	if d != nil {
		fmt.Fprintf(&text, "decided  %s, by %s at %s; it stands here until the relay has stored what lies behind it, and --replace changes it\n", d, d.By, d.At.Format(time.RFC3339))
	}
	_, err = io.WriteString(out, text.String())
	return err
}

// whoami names the person at the keyboard as well as the system knows.
func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
